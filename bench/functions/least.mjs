// The least that a function does beside a companion, by hand and for one invocation at a time: it writes its tasks' names
// down before the answer leaves, and its lines after it. Nothing is checked, and nothing survives a failure.
import { constants, openSync, writeSync } from 'node:fs'
import middy from '@middy/core'
import { answer, work } from './work.mjs'

const { AWS_LAMBDA_RUNTIME_API, POST_INVOKE_FOLDER = '/tmp' } = process.env
const path = `${POST_INVOKE_FOLDER}/.middy-post-invoke-1-${AWS_LAMBDA_RUNTIME_API.split(':').at(-1)}`
const pipe = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK)
const file = openSync(`${path}.tasks`, constants.O_RDWR | constants.O_CREAT, 0o600)
let count = 0
writeSync(pipe, 'open\n')

const least = () => {
  let tasks = []
  const before = ({ context }) => {
    tasks = []
    context.defer = task => tasks.push(task)
  }
  const after = ({ context }) => {
    const id = context.awsRequestId
    const number = ++count
    if (tasks.length > 0) {
      const names = tasks.map((_, index) => `"task ${index + 1}"`).join(', ')
      const line = `middy-post-invoke: request ${id}; unfinished: ${names}\n`
      writeSync(file, line + line, 0)
    }
    setTimeout(async () => {
      if (tasks.length > 0) {
        writeSync(pipe, `hold ${number} ${Date.now() + context.getRemainingTimeInMillis()}\n`)
        await Promise.all(tasks.map(task => task()))
        writeSync(file, '\n\n', 0)
      }
      writeSync(pipe, `settled ${number} ${id.slice(0, 8)}\n`)
    }, 1)
  }
  return { before, after, onError: after }
}

export const handler = middy()
  .use(least())
  .handler(async (event, context) => {
    if (event.work) context.defer(() => work(event.work))
    return answer()
  })
