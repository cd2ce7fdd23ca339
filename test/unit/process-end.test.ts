// What the end of the process does with tasks: at SIGTERM, and, on a clock of our own, where a function times out and no other
// process names them.
import { afterEach, expect, it, jest } from '@jest/globals'
import type { Reporter } from '../../src/middleware/companion-process.ts'
import type { Invocation } from '../../src/middleware/invocation.ts'
import { followFakeClock } from './fake-clock.ts'
import { recordLog } from './helpers.ts'

followFakeClock()
const { noCompanion } = await import('../../src/middleware/companion.ts')
const { createProcessEnd } = await import('../../src/middleware/process-end.ts')
const { now } = await import('../../src/middleware/waits.ts')

afterEach(() => void process.removeAllListeners('SIGTERM'))

/** Some open invocations, with the milliseconds that each has until its deadline. */
const start = (
  deadlines: Record<string, number>,
  companion = noCompanion,
  prepare = (_end: ReturnType<typeof createProcessEnd>, _answered: Set<string>): unknown => undefined,
) => {
  const log = recordLog()
  const unsettled = new Set<Invocation>()
  const answered = new Set<string>()
  const names: Record<string, string[]> = {}
  const handedOff = () => undefined
  const end = createProcessEnd(
    { log, carriedOver: [], handedOff, companion, hasBegun: true, unsettled },
    {},
    true,
    true,
    undefined,
  )
  prepare(end, answered)
  const deferIn = (wanted: string) => {
    for (const invocation of unsettled) if (invocation.requestId === wanted) end.onDefer(invocation)
  }
  for (const [requestId, milliseconds] of Object.entries(deadlines)) {
    const deadline = now() + milliseconds
    names[requestId] = ['audit']
    const unfinished = () => ({ names: names[requestId] as string[], text: '"audit"' })
    const isOpen = () => !answered.has(requestId)
    const invocation = { requestId, isOpen, unfinished, remainingTime: () => deadline - now() }
    unsettled.add(invocation as unknown as Invocation)
    deferIn(requestId)
  }
  const named = () => log.of('error').map(line => /request (\w+)/.exec(line)?.[1])
  return { deferIn, log, named, answered, names }
}

const pass = (milliseconds: number) => jest.advanceTimersByTimeAsync(milliseconds)

it('drains at SIGTERM what has not settled, and nothing is carried over then', async () => {
  const drained: string[] = []
  const carriedOf = (requestId: string) =>
    ({
      requestId,
      drainWithin: async () => void drained.push(requestId),
      tellUnfinished() {},
      unfinished: () => ({ names: [], text: '' }),
    }) as unknown as Invocation
  const invocations = ['carried', 'open'].map(carriedOf)
  const carriedOver = invocations.slice(0, 1)
  const end = createProcessEnd(
    {
      log: recordLog(),
      carriedOver,
      handedOff: () => undefined,
      companion: noCompanion,
      hasBegun: true,
      unsettled: new Set(invocations),
    },
    {},
    true,
    true,
    undefined,
  )
  await end.drain()
  expect(drained).toEqual(['carried', 'open'])
  expect(carriedOver).toEqual([])
})

it('names each 100 ms before its own deadline, once', async () => {
  const { log, named } = start({ late: 3_000, early: 1_000, between: 1_040 })
  expect(jest.getTimerCount()).toBe(1)
  await pass(899)
  expect(log.lines).toEqual([])
  await pass(2)
  expect(log.of('error')).toEqual([
    'the function is about to time out in the middle of request early; unfinished: "audit"',
  ])
  expect(log.fields).toEqual([{ requestId: 'early', tasks: ['audit'] }])
  await pass(50)
  expect(named()).toEqual(['early', 'between'])
  await pass(5_000)
  expect(named()).toEqual(['early', 'between', 'late'])
  expect(jest.getTimerCount()).toBe(0)
})

it('says nothing of one that has answered, or has no task', async () => {
  const { named, answered, names } = start({ answered: 1_000, empty: 1_000, open: 2_000 })
  answered.add('answered')
  names.empty = []
  await pass(5_000)
  expect(named()).toEqual(['open'])
})

it('names what is deferred when time is nearly up', async () => {
  const { deferIn, names, named } = start({ r1: 1_000 })
  names.r1 = []
  await pass(950)
  expect(named()).toEqual([])
  names.r1 = ['audit']
  deferIn('r1')
  await pass(0)
  expect(named()).toEqual(['r1'])
})

it('names nothing where another process would, or where SIGTERM comes', () => {
  start({ r1: 1_000 }, { name: 'internal', reporter: () => ({}) as Reporter })
  start({ r1: 1_000 }, noCompanion, ({ arm }) => arm())
  expect(jest.getTimerCount()).toBe(0)
})

it('names what SIGTERM would not drain', async () => {
  const { named } = start({ r1: 1_000 }, noCompanion, ({ arm, disarm }) => {
    arm()
    disarm()
  })
  await pass(901)
  expect(named()).toEqual(['r1'])
})

it('asks for no timer once the response has left', async () => {
  start({ r1: 1_000 }, noCompanion, (_, answered) => answered.add('r1'))
  expect(jest.getTimerCount()).toBe(0)
})

it('asks for no timer where there is no deadline', () => {
  start({ endless: Number.POSITIVE_INFINITY })
  expect(jest.getTimerCount()).toBe(0)
})

it('keeps no process running', () => {
  const spy = jest.spyOn(globalThis, 'setTimeout')
  start({ r1: 1_000 })
  expect(spy.mock.results.map(({ value }) => (value as NodeJS.Timeout).hasRef())).toEqual([false])
  spy.mockRestore()
})
