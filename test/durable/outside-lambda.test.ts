// Durable executions outside of Lambda, in AWS's own local test runner. A suspension runs no hooks, and there is no runtime client
// that tells of it: the test kit does, or a plugin, which the SDK asks as it ends an invocation.
import { fileURLToPath } from 'node:url'
import { withDurableExecution } from '@aws/durable-execution-sdk-js'
import { LocalDurableTestRunner } from '@aws/durable-execution-sdk-js-testing'
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import middy from '@middy/core'
import { executionModeDurableContext } from '@middy/core/DurableContext'
import { withPostInvoke } from '../../src/handler.ts'
import postInvoke from '../../src/index.ts'
import { durableExecutionPluginProvider, invoke, reset } from '../../src/testing/index.ts'
import { root, succeed } from '../package/packed.ts'
import { eventually } from '../support/run.ts'

const TEST_MS = 30_000

beforeAll(() => LocalDurableTestRunner.setupTestEnvironment())
afterAll(() => LocalDurableTestRunner.teardownTestEnvironment())

type Handler = (event: any, context: any) => Promise<any>

const story: string[] = []
afterEach(async () => {
  await reset()
  story.length = 0
})

const task =
  (name: string) =>
  ({ outcome }: { outcome: string }) =>
    void story.push(`${name}: ${outcome}`)

const durable: Handler = async ({ steps, throws }, context) => {
  story.push('handler')
  context.defer(task('before the wait'))
  if (steps) await context.step('first', async () => story.push('step'))
  await context.wait({ seconds: 1 })
  context.defer(task('after the wait'))
  if (throws) throw new Error('the handler fails')
}

/** Middy's timer for an early timeout would keep the process alive: a suspension does not clear it. */
const byMiddy = () =>
  middy({ executionMode: executionModeDurableContext, timeoutEarlyInMillis: 0 })
    .use(postInvoke())
    .handler(durable) as Handler
const byWrapper = (plugins = [durableExecutionPluginProvider.createPlugin()]) =>
  withDurableExecution(withPostInvoke(durable) as never, { plugins }) as Handler

/** The plugin is loaded as the handler is made. */
const withVariable = (make: () => Handler) => {
  process.env.DURABLE_EXECUTION_PLUGINS = fileURLToPath(new URL('../../src/testing/index.ts', import.meta.url))
  try {
    return make()
  } finally {
    delete process.env.DURABLE_EXECUTION_PLUGINS
  }
}

const byKit =
  (handler: Handler): Handler =>
  async (event, context) =>
    (await invoke(handler, event, { context, timeout: 60_000 })).answer

/** @returns the status of each invocation, and that of the execution. */
const execute = async (handler: Handler, payload: object): Promise<string[]> => {
  const statuses: string[] = []
  const handlerFunction: Handler = async (event, context) => {
    const answer = await handler(event, context)
    statuses.push(answer.Status)
    return answer
  }
  const execution = await new LocalDurableTestRunner({ handlerFunction: handlerFunction as never }).run({ payload })
  return [...statuses, String(execution.getStatus())]
}

const stories: [string, object, string[], string[]][] = [
  [
    'a success',
    { steps: true },
    ['PENDING', 'SUCCEEDED', 'SUCCEEDED'],
    [
      ...['handler', 'step', 'before the wait: success'],
      ...['handler', 'after the wait: success', 'before the wait: success'],
    ],
  ],
  [
    'a failure',
    { throws: true },
    ['PENDING', 'FAILED', 'FAILED'],
    [...['handler', 'before the wait: success'], ...['handler', 'after the wait: error', 'before the wait: error']],
  ],
]

describe.each<[string, () => Handler]>([
  ['the test kit, with Middy', () => byKit(byMiddy())],
  ['the test kit, without Middy', () => byKit(byWrapper([]))],
  ['the plugin, with Middy, by the variable of the SDK', () => withVariable(byMiddy)],
  ['the plugin, without Middy', byWrapper],
  ['both', () => byKit(byWrapper())],
])('%s', (_, make) => {
  it.each(stories)(
    'runs what was deferred before a suspension when that ends the invocation: %s',
    async (_, payload, statuses, expected) => {
      expect(await execute(make(), payload)).toEqual(statuses)
      await eventually(() => story.length >= expected.length, 'the tasks have ended')
      expect(story).toEqual(expected)
    },
    TEST_MS,
  )
})

it(
  'leaves it lying otherwise',
  async () => {
    const [, payload, statuses, [handler, step, , ...rest]] = stories[0]!
    expect(await execute(byMiddy(), payload)).toEqual(statuses)
    const expected = [handler, step, ...rest]
    await eventually(() => story.length >= expected.length, 'the tasks of the last invocation have ended')
    expect(story).toEqual(expected)
  },
  TEST_MS,
)

it(
  'is so in examples/testing/durable.test.ts',
  async () => {
    // The runner that runs this test must not be heard by the one that it starts.
    const { NODE_TEST_CONTEXT: _, NODE_OPTIONS: __, ...env } = process.env
    const args = ['--test', '--test-reporter=tap', 'examples/testing/durable.test.ts']
    expect(await succeed(process.execPath, args, { cwd: root, env, timeout: TEST_MS })).toMatch(/# pass 1\n# fail 0/)
  },
  TEST_MS,
)
