import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import type { InvocationReport } from '../../src/sandbox/types.ts'
import { type CompanionName, eventually, isAlive, type Mark, type Run, startRun } from './run.ts'
import type { RuntimeClient } from './runtime-clients.ts'

const TEST_MS = 120_000

/** What is not held is released at once, however slow the machine is; what is held by mistake, at its timeout of 120 s. */
const CLOCK_MS = 8_000

export type Setup = {
  client: RuntimeClient
  companion: CompanionName
  freeze?: boolean
  /** How often a task that burns CPU must not delay its response. */
  burns: number
}

/** The main job, the same whatever the runtime client and the companion. */
export const describeDeferredTasks = (setup: Setup): void => {
  const { client, companion, freeze = false, burns } = setup
  describe(`${client.name}, ${companion}${freeze ? ', frozen between invocations' : ''}`, () => {
    describe('buffered', () => {
      let run: Run
      beforeAll(async () => {
        run = await startRun({ client, companion, freeze })
      }, TEST_MS)
      afterAll(() => run?.sandbox[Symbol.asyncDispose]())

      it(
        'answers first, then runs the task, then is released',
        async () => {
          const report = await run.invoke({ tasks: [{ kind: 'sleep', name: 'slow', ms: 300 }] })
          expect(report).toMatchObject({ status: 'success', timedOut: false })
          await expectPostInvoke(run, report, ['slow'])
        },
        TEST_MS,
      )

      it(
        'runs tasks last in, first out, and what tasks and other modules defer',
        async () => {
          const report = await run.invoke({
            tasks: [
              { kind: 'quick', name: 'first' },
              { kind: 'nested', name: 'outer', inner: { kind: 'sleep', ms: 5, name: 'inner' } },
              { kind: 'quick', name: 'last' },
            ],
          })
          await expectPostInvoke(run, report, ['last', 'outer', 'inner', 'first'])
          const imported = await run.invoke({ imported: true, tasks: [{ kind: 'nested-import', name: 'outer' }] })
          await eventually(() => ends(run, imported).length === 3, 'three tasks have ended')
          expect(ends(run, imported)).toEqual(['imported', 'outer', 'inner'])
        },
        TEST_MS,
      )

      it(
        'keeps to the async context in which a task was deferred',
        async () => {
          const report = await run.invoke({ tasks: [{ kind: 'quick', name: 'task' }] })
          await expectPostInvoke(run, report, ['task'])
          expect(starts(run, report)[0]?.user).toBe(report.requestId)
        },
        TEST_MS,
      )

      it(
        'logs tasks that fail, by name and request, and goes on',
        async () => {
          const report = await run.invoke({
            tasks: [
              { kind: 'quick', name: 'fine' },
              { kind: 'reject', name: 'rejects' },
              { kind: 'throw', name: 'throws', sync: true },
            ],
          })
          await eventually(() => ends(run, report).includes('fine'), 'the task after the failed ones has run')
          expect(report.body()).toEqual({ ok: true, id: report.requestId })
          for (const name of ['rejects', 'throws']) {
            expect(run.logged(`task "${name}" of request ${report.requestId} failed`)).toHaveLength(1)
          }
        },
        TEST_MS,
      )

      it(
        "answers a handler's error at once and runs its tasks with that outcome",
        async () => {
          const report = await run.invoke({
            throws: true,
            tasks: [
              { kind: 'sleep', name: 'always', ms: 20 },
              { kind: 'quick', name: 'on error', on: 'error' },
              { kind: 'quick', name: 'on success', on: 'success' },
            ],
          })
          expect(report).toMatchObject({ kind: 'error', status: 'error' })
          expect(report.body().errorMessage).toBe('handler threw')
          await expectPostInvoke(run, report, ['on error', 'always'])
          expect(starts(run, report)).toMatchObject([
            { outcome: 'error', error: 'handler threw' },
            { outcome: 'error', error: 'handler threw' },
          ])
        },
        TEST_MS,
      )

      it(
        'waits for a promise that was under way',
        async () => {
          const report = await run.invoke({ promise: 700 })
          await eventually(() => run.marks().some(({ name }) => name === 'promise'), 'the promise has ended')
          const { t } = run.marks().find(({ name }) => name === 'promise') as Mark
          expect(t).toBeGreaterThan(run.time('response', report.requestId))
          expect(t).toBeLessThan(run.time('released', report.requestId))
        },
        TEST_MS,
      )

      it(
        'does not hold an invocation without tasks',
        async () => {
          await expectNotHeld(run, {})
        },
        TEST_MS,
      )

      it.each(['before-outer', 'before-inner', 'after-outer', 'after-inner'])(
        'does not hold after an early return (%s), and runs what was deferred',
        async early => {
          await expectNotHeld(run, { early })
          if (early === 'before-outer') return // ends ahead of us: there is no context.defer yet
          const report = await run.invoke({ early, beforeTasks: [{ kind: 'sleep', ms: 50, name: 'deferred' }] })
          expect(report.body()).toEqual({ early: early.slice(0, early.indexOf('-')) })
          await expectPostInvoke(run, report, ['deferred'])
        },
        TEST_MS,
      )

      it.each(['onError-outer', 'onError-inner'])(
        'does not hold when a response is made of an error (%s), and runs what was deferred',
        async early => {
          await expectNotHeld(run, { early, throws: true })
          const report = await run.invoke({ early, throws: true, tasks: [{ kind: 'sleep', ms: 50, name: 'deferred' }] })
          expect(report.body()).toEqual({ early: 'onError' })
          await expectPostInvoke(run, report, ['deferred'])
          expect(starts(run, report)[0]).toMatchObject({ outcome: 'error', error: 'handler threw' })
        },
        TEST_MS,
      )

      it(
        'lets an InvokeStore.run inside the handler pass',
        async () => {
          const report = await run.invoke({ nestedRun: true, tasks: [{ kind: 'sleep', ms: 20, name: 'task' }] })
          await expectPostInvoke(run, report, ['task'])
        },
        TEST_MS,
      )

      it(
        'takes a request id again, as in a retry',
        async () => {
          for (const ms of [20, 60, 20]) {
            const report = await run.invoke({ tasks: [{ kind: 'sleep', ms, name: `retry ${ms}` }] }, 'one-and-the-same')
            expect(report.status).toBe('success')
          }
          await eventually(
            () => run.marks('one-and-the-same').filter(({ what }) => what === 'end').length === 3,
            'all ran',
          )
        },
        TEST_MS,
      )

      it(
        `delays no response by a task that burns CPU at once, in ${burns} of ${burns}`,
        async () => {
          for (let count = 0; count < burns; count++) {
            const report = await run.invoke({ tasks: [{ kind: 'burn', ms: 200, name: 'burn', sync: true }] })
            await expectPostInvoke(run, report, ['burn'])
          }
        },
        TEST_MS + burns * 1_000,
      )

      it('has logged nothing but what failed', () => {
        const others = run.logged().filter(text => !/task "(rejects|throws)" of request \S+ failed:/.test(text))
        expect(others).toEqual([])
        expect(run.sandbox.events.filter(({ type }) => type === 'reset')).toEqual([])
      })
    })

    describe.each([
      ['awaits I/O after the handler', {}],
      ['awaits before the handler too', { wrapBefore: true }],
    ])('wrapped in something that %s', (_, event) => {
      it(
        'starts no task before the response was posted',
        async () => {
          const run = await startRun({ client, companion, freeze, handler: 'index.wrapped' })
          await using _sandbox = run.sandbox
          for (let count = 0; count < 3; count++) {
            const report = await run.invoke({ ...event, tasks: [{ kind: 'burn', name: 'burn', sync: true }] })
            await expectPostInvoke(run, report, ['burn'])
          }
        },
        TEST_MS,
      )
    })

    describe('streamed', () => {
      let run: Run
      beforeAll(async () => {
        run = await startRun({ client, companion, freeze, handler: 'streaming.handler' })
      }, TEST_MS)
      afterAll(() => run?.sandbox[Symbol.asyncDispose]())

      const body = 'chunk 0\nchunk 1\nchunk 2\n'

      it(
        'runs tasks once the last byte has been accepted',
        async () => {
          const report = await run.invoke({ tasks: [{ kind: 'sleep', name: 'slow', ms: 300 }] })
          expect(report).toMatchObject({ status: 'success', streamed: true })
          expect(report.payload.endsWith(body)).toBe(true)
          await expectPostInvoke(run, report, ['slow'])
        },
        TEST_MS,
      )

      it(
        'does not hold without tasks',
        async () => {
          await expectNotHeld(run, {})
        },
        TEST_MS,
      )

      it(
        'ends an invocation that failed ahead of the middleware',
        async () => {
          for (let count = 0; count < 2; count++) {
            expect(await run.invoke({ throwsAhead: true })).toMatchObject({
              status: 'error',
              streamed: true,
              timedOut: false,
            })
          }
          expect(await run.invoke({})).toMatchObject({ status: 'success' })
        },
        TEST_MS,
      )

      it(
        'runs tasks when the handler throws',
        async () => {
          const report = await run.invoke({ throws: true, tasks: [{ kind: 'burn', name: 'burn', sync: true }] })
          expect(report).toMatchObject({ streamed: true, trailers: { errorType: 'Error' } })
          await expectPostInvoke(run, report, ['burn'])
        },
        TEST_MS,
      )

      it(
        'runs tasks when the body throws, or names them when the client cannot take that',
        async () => {
          // Middy destroys the stream, whose error AWS's clients leave unhandled: with or without us their process ends.
          const endsTheProcess = client.kind !== 'built-in'
          const report = await run.invoke({ bodyThrows: true, tasks: [{ kind: 'burn', name: 'burn', sync: true }] })
          expect(report).toMatchObject({ streamed: true, kind: 'error', timedOut: false })
          if (endsTheProcess) {
            await eventually(
              () => run.logged('the process ends in the middle of request', report.requestId, '"burn"').length === 1,
              'the lost task is named',
            )
          } else {
            // Nobody tells the process when the caller has noticed, so the start of the task has nothing to be after.
            await eventually(() => ends(run, report).length === 1, 'the task has ended')
          }
          expect(await run.invoke({})).toMatchObject({ status: 'success' })
        },
        TEST_MS,
      )

      it(
        `delays no response by a task that burns CPU at once, in ${burns} of ${burns}`,
        async () => {
          for (let count = 0; count < burns; count++) {
            const report = await run.invoke({ tasks: [{ kind: 'burn', ms: 200, name: 'burn', sync: true }] })
            await expectPostInvoke(run, report, ['burn'])
          }
        },
        TEST_MS + burns * 1_000,
      )
    })

    it(
      'delays no response of a streaming handler that throws in a fresh environment',
      async () => {
        for (let count = 0; count < Math.ceil(burns / 10); count++) {
          const run = await startRun({ client, companion, freeze, handler: 'streaming.handler' })
          await using _sandbox = run.sandbox
          const report = await run.invoke({
            throws: true,
            tasks: [{ kind: 'burn', ms: 200, name: 'burn', sync: true }],
          })
          await expectPostInvoke(run, report, ['burn'])
        }
      },
      TEST_MS + burns * 1_000,
    )

    describe('a task that never ends', () => {
      // SIGTERM comes by itself beside an extension, so a drain is registered there: what could not start is carried over.
      const carries = companion !== 'gate'

      it.each(['never', 'never-timer', 'abort'])(
        'is released before the deadline (%s)',
        async kind => {
          // Patience, for a busy machine: what is never released times out all the same. And tasks are let go long
          // before the companion lets go of the environment, because that machine is late with each.
          const environment = { DEADLINE_MARGIN: '1500' }
          const run = await startRun({ client, companion, freeze, timeout: 2_500, patience: 1_000, environment })
          await using _sandbox = run.sandbox
          const requestIds: string[] = []
          for (let count = 0; count < 2; count++) {
            const report = await run.invoke({
              tasks: [
                { kind: 'quick', name: 'waits' },
                { kind, name: 'endless' },
              ],
            })
            expect(report).toMatchObject({ status: 'success', timedOut: false })
            requestIds.push(report.requestId)
            const unstarted = `tasks of request ${report.requestId} could not start before the function's deadline`
            const fate = carries ? ', and are carried over: "waits"' : ': "waits"'
            await eventually(
              () => run.logged(`${unstarted}${fate}`).length === 1,
              'the task that was not started is named',
            )
            expect(run.logged(`task "endless" of request ${report.requestId} failed`)).toHaveLength(1)
          }
          const last = await run.invoke({ tasks: [{ kind: 'quick', name: 'own' }] })
          await eventually(() => ends(run, last).length === 1, 'the last one has run its own')
          const carried = run.marks().filter(({ what, name }) => what === 'end' && name === 'waits')
          expect(carried.map(({ id }) => id)).toEqual(carries ? requestIds : [])
          expect(run.sandbox.events.filter(({ type }) => type === 'reset' || type === 'timeout')).toEqual([])
        },
        TEST_MS,
      )
    })

    describe('a process that ends in the middle of a task', () => {
      it.each(['throws-later', 'unhandled', 'unhandled-quick', 'exit'])(
        'is named and really gone (%s)',
        async kind => {
          const run = await startRun({ client, companion, freeze })
          await using _sandbox = run.sandbox
          await run.invoke({})
          const pid = run.sandbox.runtimePid as number
          const report = await run.invoke({
            tasks: [
              { kind: 'quick', name: 'never started' },
              { kind, name: 'deadly' },
            ],
          })
          expect(report).toMatchObject({ kind: 'response', timedOut: false })
          expect(report.body()).toMatchObject({ ok: true })
          await eventually(() => !isAlive(pid), 'the process is gone')
          if (kind !== 'unhandled-quick') {
            await eventually(
              () => run.logged('in the middle of request', report.requestId, '"deadly", "never started"').length >= 1,
              'the lost tasks are named',
            )
          }
          expect(await run.invoke({})).toMatchObject({ status: 'success', kind: 'response' })
        },
        TEST_MS,
      )

      it(
        'is noticed when it was killed',
        async () => {
          const run = await startRun({ client, companion, freeze })
          await using _sandbox = run.sandbox
          const pid = run.sandbox.runtimePid as number
          const sent = run.sandbox.send({
            tasks: [
              { kind: 'quick', name: 'never started' },
              { kind: 'never', name: 'killed' },
            ],
          })
          await eventually(() => run.marks(sent.requestId).some(({ what }) => what === 'start'), 'the task runs')
          process.kill(pid, 'SIGKILL')
          const report = await sent.released
          expect(report).toMatchObject({ kind: 'response', timedOut: false })
          // A killed process says nothing any more: only a companion that is a process of its own outlives it.
          if (companion !== 'gate') {
            await eventually(
              () =>
                run.logged("the function's process ended", report.requestId, '"killed", "never started"').length === 1,
              'the lost tasks are named',
            )
          }
          expect(await run.invoke({})).toMatchObject({ status: 'success', kind: 'response' })
        },
        TEST_MS,
      )
    })

    it(
      'holds the first invocation of a function that blocks its event loop',
      async () => {
        const run = await startRun({ client, companion, freeze })
        await using _sandbox = run.sandbox
        const report = await run.invoke({ block: 1_200, tasks: [{ kind: 'sleep', ms: 300, name: 'slow' }] })
        await expectPostInvoke(run, report, ['slow'])
      },
      TEST_MS,
    )

    it(
      'is not disturbed by a child process that loads the same code',
      async () => {
        const run = await startRun({ client, companion, freeze, handler: 'forks.handler' })
        await using _sandbox = run.sandbox
        for (let count = 0; count < 2; count++) {
          expect(await run.invoke({})).toMatchObject({ status: 'success', timedOut: false })
          const report = await run.invoke({ tasks: [{ kind: 'sleep', ms: 50, name: 'task' }] })
          await expectPostInvoke(run, report, ['task'])
        }
        expect(run.logged()).toEqual([])
      },
      TEST_MS,
    )

    it(
      'waits for the tasks of an early return where there is no companion',
      async () => {
        const run = await startRun({
          client,
          companion,
          freeze,
          layers: [],
          environment: { POST_INVOKE_COMPANION: 'off' },
        })
        await using _sandbox = run.sandbox
        for (const early of ['before-inner', 'after-inner', 'after-outer']) {
          const report = await run.invoke({ early, beforeTasks: [{ kind: 'sleep', ms: 50, name: 'deferred' }] })
          expect(report.body()).toEqual({ early: early.slice(0, early.indexOf('-')) })
          const end = run.marks(report.requestId).find(({ what }) => what === 'end')
          expect(end?.t).toBeLessThan(run.time('response', report.requestId))
        }
      },
      TEST_MS,
    )

    it(
      'does not hold a function without the middleware',
      async () => {
        const run = await startRun({ client, companion, freeze, handler: 'plain.handler' })
        await using _sandbox = run.sandbox
        for (let count = 0; count < 3; count++) await expectNotHeld(run, {})
      },
      TEST_MS,
    )
  })
}

/** Released before the function's own clock, which the event sets off, has struck. */
const expectNotHeld = async (run: Run, event: object): Promise<void> => {
  const report = await run.invoke({ ...event, clock: CLOCK_MS })
  expect(report).toMatchObject({ status: 'success', timedOut: false })
  const isStruck = ({ what, id }: Mark) => what === 'clock' && id === report.requestId
  expect(run.marks().filter(isStruck)).toEqual([])
}

/** The answer had left before the first task began, and the release came after the last had ended. */
const expectPostInvoke = async (run: Run, report: InvocationReport, names: string[]): Promise<void> => {
  await eventually(() => ends(run, report).length >= names.length, `${names.join(', ')} have ended`)
  expect(ends(run, report)).toEqual(names)
  const marks = run.marks(report.requestId).filter(({ what }) => what === 'start' || what === 'end')
  const first = Math.min(...marks.map(({ t }) => t))
  const last = Math.max(...marks.map(({ t }) => t))
  expect(first).toBeGreaterThan(run.time('response', report.requestId))
  expect(last).toBeLessThan(run.time('released', report.requestId))
}

const starts = (run: Run, { requestId }: InvocationReport) =>
  run.marks(requestId).filter(({ what }) => what === 'start')

const ends = (run: Run, { requestId }: InvocationReport) =>
  run
    .marks(requestId)
    .filter(({ what }) => what === 'end')
    .map(({ name }) => name)
