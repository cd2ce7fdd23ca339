// The sandbox's Runtime and Extensions API beside the emulator's: the same calls, right ones and wrong ones, get the same
// answers, with the same status and the same type of error.
import { fileURLToPath } from 'node:url'
import { expect, test } from '@jest/globals'
import { createSandbox } from '../../dist/sandbox/index.js'
import { startEmulator } from './rie.ts'

const folder = fileURLToPath(new URL('../fixtures/api-calls', import.meta.url))
const file = `${folder}/runtime.mjs`
const layer = `${folder}/opt`

type Told = [call: string, answer: string][]

const inTheEmulator = async (): Promise<Told> => {
  const emulator = await startEmulator({ runtimeClient: { file }, opt: layer, taskRoot: folder })
  try {
    await emulator.invoke()
    await emulator.invoke()
    const { body } = await emulator.invoke()
    return typeof body === 'string' ? JSON.parse(body) : body
  } catch (error) {
    throw new Error(`${error}\n${emulator.log}`)
  } finally {
    emulator.kill()
  }
}

const inTheSandbox = async (): Promise<Told> => {
  await using sandbox = await createSandbox({
    taskRoot: folder,
    handler: 'runtime.handler',
    runtimeClient: [process.execPath, file],
    layers: [layer],
    timeout: 10_000,
    patience: 20_000,
  })
  await sandbox.invoke({})
  await sandbox.invoke({})
  return (await sandbox.invoke({})).body<Told>()
}

/** What the emulator leaves out, and Lambda does not. */
const LEFT_OUT: Record<string, [emulator: string, sandbox: string]> = {
  'its body, with the account asked for': [
    'functionName functionVersion handler',
    'accountId functionName functionVersion handler',
  ],
  'the headers of the first invocation': [
    'lambda-runtime-aws-request-id lambda-runtime-deadline-ms lambda-runtime-invoked-function-arn',
    'lambda-runtime-aws-request-id lambda-runtime-deadline-ms lambda-runtime-invoked-function-arn lambda-runtime-trace-id',
  ],
  'the fields of its event': [
    'deadlineMs eventType invokedFunctionArn requestId',
    'deadlineMs eventType invokedFunctionArn requestId tracing',
  ],
}

test('what is asked of them is answered alike', async () => {
  const emulator = await inTheEmulator()
  const sandbox = await inTheSandbox()
  expect(emulator.length).toBeGreaterThan(55)
  const answers = new Map(sandbox)
  expect([...answers.keys()]).toEqual(emulator.map(([call]) => call))
  const different = emulator.filter(([call, answer]) => answers.get(call) !== answer)
  expect(Object.fromEntries(different.map(([call, answer]) => [call, [answer, answers.get(call)]]))).toEqual(LEFT_OUT)
}, 60_000)
