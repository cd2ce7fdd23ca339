// The least that a function does to hold by the gate, by hand and for one invocation at a time: the promise of InvokeStore.run
// waits for the tasks. Nothing is checked, bound, named or reported.
import middy from '@middy/core'
import { answer, work } from './work.mjs'

let tasks = []

const { InvokeStore } = globalThis.awslambda
const { run } = InvokeStore
InvokeStore.run = async function (context, fn) {
  tasks = []
  const result = await run.call(this, context, fn)
  await Promise.all(tasks.map(task => task()))
  return result
}

const before = ({ context }) => {
  context.defer = task => tasks.push(task)
}

export const handler = middy()
  .use({ before })
  .handler(async (event, context) => {
    if (event.work) context.defer(() => work(event.work))
    return answer()
  })
