import { describe, expect, it } from '@jest/globals'
import { type CompanionName, eventually, type Run, startRun } from './run.ts'
import type { RuntimeClient } from './runtime-clients.ts'

const TEST_MS = 120_000

/** The process itself keeps to Lambda's time, and at a busy hour the machine does not: it is killed so much later. */
const PATIENCE_MS = 5_000

/** What its process has beside an external extension, and without one. */
const LAMBDAS_MS = { layer: 300, internal: 500, gate: 500 }

/** The shutdown drain, the same whatever the runtime client and the companion. */
export const describeShutdown = (setup: {
  client: RuntimeClient
  companion: CompanionName
  freeze?: boolean
  /** How many shutdowns must all run their hooks. */
  shutdowns: number
}): void => {
  const { client, companion, freeze = false, shutdowns } = setup
  const start = (hooks: string, { timeout, patience = PATIENCE_MS }: { timeout?: number; patience?: number } = {}) =>
    startRun({
      client,
      companion,
      freeze,
      handler: 'shutdown.handler',
      patience,
      ...(timeout && { timeout }),
      environment: { HOOKS: hooks },
    })

  describe(`the shutdown drain: ${client.name}, ${companion}${freeze ? ', frozen between invocations' : ''}`, () => {
    it(
      `runs hooks, last in, first out, and ends the process itself, in ${shutdowns} of ${shutdowns}`,
      async () => {
        const toTheEnd: number[] = []
        let inTime = 0
        for (let count = 0; count < shutdowns; count++) {
          const run = await start('plain')
          await using _sandbox = run.sandbox
          expect(await run.invoke({})).toMatchObject({ status: 'success' })
          const { processes } = await run.sandbox.shutdown()
          expect(hooks(run)).toEqual(['disposable', 'async disposable', 'second', 'first'])
          expect(marked(run, 'second')).toMatchObject({ aborted: false, hasTime: true })
          expect(processes.find(({ process }) => process === 'function')).toMatchObject({
            signal: 'SIGKILL',
            killed: false,
          })
          expect(run.logged('shutdown')).toEqual([])
          toTheEnd.push(run.exitTime('function') - (marked(run, 'first')?.t ?? Number.NaN))
          if (run.exitTime('function') - run.signalTime('function') < LAMBDAS_MS[companion]) inTime++
        }
        toTheEnd.sort((one, other) => one - other)
        console.log(
          `${client.name}, ${companion}: from the last hook's end to the end of the process, median ${toTheEnd[shutdowns >> 1]?.toFixed(1)} ms, most ${toTheEnd.at(-1)?.toFixed(1)} ms; within Lambda's ${LAMBDAS_MS[companion]} ms in ${inTime} of ${shutdowns}`,
        )
      },
      TEST_MS + shutdowns * 2_000,
    )

    it(
      'goes on after hooks that fail or hang',
      async () => {
        const run = await start('faulty')
        await using _sandbox = run.sandbox
        await run.invoke({})
        await run.sandbox.shutdown()
        expect(hooks(run)).toEqual(['last'])
        for (const name of ['throws', 'rejects', 'hangs']) {
          expect(run.logged(`shutdown hook "${name}" failed`)).toHaveLength(1)
        }
      },
      TEST_MS,
    )

    it(
      'names what there was no time for',
      async () => {
        const run = await start('hangs')
        await using _sandbox = run.sandbox
        await run.invoke({})
        const { processes } = await run.sandbox.shutdown()
        expect(run.logged('shutdown hook "hangs" failed')).toHaveLength(1)
        expect(run.logged("the shutdown's time is over", '"never reached"')).toHaveLength(1)
        expect(processes.find(({ process }) => process === 'function')).toMatchObject({ killed: false })
      },
      TEST_MS,
    )

    it(
      'makes a resource once and disposes of it, the last made first',
      async () => {
        const run = await start('resource')
        await using _sandbox = run.sandbox
        await run.invoke({})
        await run.invoke({})
        await run.sandbox.shutdown()
        expect(run.marks().filter(({ what }) => what === 'created')).toHaveLength(1)
        expect(run.marks().filter(({ what }) => what === 'used')).toHaveLength(2)
        expect(hooks(run)).toEqual(['cache', 'database'])
      },
      TEST_MS,
    )

    it(
      'leaves the end to others who listen for SIGTERM',
      async () => {
        const run = await start('listener')
        await using _sandbox = run.sandbox
        await run.invoke({})
        await run.sandbox.shutdown()
        expect(hooks(run)).toEqual(['ours', 'theirs'])
      },
      TEST_MS,
    )

    it(
      'runs the tasks of a function that timed out, with that outcome',
      async () => {
        const run = await start('plain', { timeout: 1_000, patience: 2_000 })
        await using _sandbox = run.sandbox
        const report = await run.invoke({ hang: true, tasks: ['one', 'two'] })
        expect(report).toMatchObject({ status: 'timeout', timedOut: true })
        await eventually(() => hooks(run).length === 4, 'all hooks have run')
        const tasks = run.marks().filter(({ what }) => what === 'task')
        expect(tasks).toMatchObject([
          { name: 'two', outcome: 'error', code: 'ERR_SHUTDOWN' },
          { name: 'one', outcome: 'error', code: 'ERR_SHUTDOWN' },
        ])
        expect(run.logged('in the middle of request')).toEqual([])
        expect(await run.invoke({})).toMatchObject({ status: 'success' })
      },
      TEST_MS,
    )

    it(
      'says so when a hook comes too late for SIGTERM to come',
      async () => {
        const run = await start('late')
        await using _sandbox = run.sandbox
        await run.invoke({})
        await run.invoke({})
        await run.sandbox.shutdown()
        const comesAnyway = companion !== 'gate'
        expect(run.logged('no SIGTERM will come')).toHaveLength(comesAnyway ? 0 : 1)
        expect(hooks(run)).toEqual(comesAnyway ? ['late', 'late'] : [])
      },
      TEST_MS,
    )

    it(
      'is off by option: then a task of a function that timed out is lost',
      async () => {
        const run = await start('off', { timeout: 500, patience: 1_000 })
        await using _sandbox = run.sandbox
        expect(await run.invoke({ hang: true, tasks: ['one'] })).toMatchObject({ timedOut: true })
        expect(run.marks().filter(({ what }) => what === 'task')).toEqual([])
      },
      TEST_MS,
    )
  })
}

const hooks = (run: Run) =>
  run
    .marks()
    .filter(({ what }) => what === 'hook')
    .map(({ name }) => name)

const marked = (run: Run, name: string) => run.marks().find(mark => mark.what === 'hook' && mark.name === name)
