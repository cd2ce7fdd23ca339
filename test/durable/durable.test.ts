// What defer() means in a durable execution: the tasks of each of its invocations run after the answer of that invocation,
// also where that is a suspension, and a replay of the handler defers again.

import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import type { InvocationReport } from '../../src/sandbox/types.ts'
import { type CompanionName, eventually, type Run, startRun } from '../support/run.ts'
import { type RuntimeClient, runtimeClients } from '../support/runtime-clients.ts'
import { type DurableService, startDurableService } from './durable-service.ts'

const TEST_MS = 30_000

const setups = runtimeClients.flatMap(client =>
  (['gate', 'internal', 'layer'] as const)
    .filter(companion => companion !== 'gate' || client.kind !== 'ric3')
    .map(companion => [`${client.name}, ${companion}`, client, companion] as const),
)

let service: DurableService
beforeAll(async () => {
  service = await startDurableService()
})
afterAll(() => service?.close())

const start = (client: RuntimeClient, companion: CompanionName, environment: Record<string, string> = {}) =>
  startRun({
    ...{ client, companion, freeze: true, handler: 'index.handler' },
    taskRoot: fileURLToPath(new URL('../fixtures/durable', import.meta.url)),
    environment: { ...service.environment, ...environment },
  })

describe.each(setups)('durable: %s', (_, client, companion) => {
  it.each([
    ['', {}],
    [', also beside the plugin for unit tests', { DURABLE_EXECUTION_PLUGINS: 'middy-post-invoke/testing' }],
  ])(
    'runs what was deferred after the suspension has been posted, and what the replay defers after the result%s',
    async (_, environment) => {
      const run = await start(client, companion, environment)
      await using _sandbox = run.sandbox
      const { status, result, reports } = await service.execute(run.sandbox, {})
      expect({ status, result }).toEqual({ status: 'SUCCEEDED', result: 2 })
      expect(reports.map(report => report.body().Status)).toEqual(['PENDING', 'SUCCEEDED'])

      // Neither `after` nor `onError` runs at a suspension, which counts as a success all the same.
      expect(story(run, reports[0])).toEqual([
        ...['before', 'handler', 'step first'],
        ...['in the first step: success', 'on success: success', 'in the handler: success'],
      ])
      // The step is not run again, and what it deferred neither.
      expect(story(run, reports[1])).toEqual([
        ...['before', 'handler', 'after'],
        ...['after the wait: success', 'on success: success', 'in the handler: success'],
      ])
      for (const report of reports) await expectPostInvoke(run, report, 3)
      expect(run.logged('')).toEqual([])
      expect(run.sandbox.events.filter(({ type }) => type === 'reset')).toEqual([])
    },
    TEST_MS,
  )

  it(
    'runs what a step defers once for each time that the step runs, and tells the tasks of the last one what was thrown',
    async () => {
      const run = await start(client, companion)
      await using _sandbox = run.sandbox
      const { status, error, reports } = await service.execute(run.sandbox, { retries: true, throws: true })
      expect({ status, error }).toEqual({ status: 'FAILED', error: 'the handler fails' })
      expect(reports.map(report => report.body().Status)).toEqual(['PENDING', 'PENDING', 'FAILED'])

      expect(story(run, reports[0])).toEqual([
        ...['before', 'handler', 'step first'],
        ...['in the first step: success', 'on success: success', 'in the handler: success'],
      ])
      expect(story(run, reports[1])).toEqual([
        ...['before', 'handler', 'step fails'],
        ...['in the step that fails: success', 'on success: success', 'in the handler: success'],
      ])
      expect(story(run, reports[2])).toEqual([
        ...['before', 'handler', 'step fails', 'onError'],
        ...['after the wait: error', 'in the step that fails: error', 'on error: error', 'in the handler: error'],
      ])
      for (const [index, report] of reports.entries()) await expectPostInvoke(run, report, [3, 3, 4][index] as number)
      expect(run.logged('')).toEqual([])
      expect(run.sandbox.events.filter(({ type }) => type === 'reset')).toEqual([])
    },
    TEST_MS,
  )
})

/** What happened in one invocation, in order: hooks, the handler, steps, then tasks with their outcome. */
const story = (run: Run, report: InvocationReport | undefined): string[] =>
  run
    .marks(report?.requestId)
    .filter(({ what }) => what !== 'end')
    .map(({ what, name, outcome }) => {
      if (what === 'start') return `${name}: ${outcome}`
      return name === undefined ? what : `${what} ${name}`
    })

/** The answer had left before the first task began, and the release came after the last had ended. */
const expectPostInvoke = async (run: Run, { requestId }: InvocationReport, count: number): Promise<void> => {
  const tasks = () => run.marks(requestId).filter(({ what }) => what === 'start' || what === 'end')
  await eventually(() => tasks().length === 2 * count, `${count} tasks have ended`)
  for (const { t } of tasks()) {
    expect(t).toBeGreaterThan(run.time('response', requestId))
    expect(t).toBeLessThan(run.time('released', requestId))
  }
}
