// What the end of the process does with tasks: at SIGTERM, and, on a clock of our own, where a function times out and no other
// process names them.
import { expect, it, jest } from '@jest/globals'
import type { Invocation } from '../../src/middleware/invocation.ts'
import { followFakeClock } from './fake-clock.ts'
import { recordLog } from './helpers.ts'

followFakeClock()
const { noCompanion } = await import('../../src/middleware/companion.ts')
const { createProcessEnd } = await import('../../src/middleware/process-end.ts')
const { now } = await import('../../src/middleware/waits.ts')

/** Some open invocations, with the milliseconds that each has until its deadline. */
const start = (deadlines: Record<string, number>) => {
  const log = recordLog()
  const unsettled = new Map<Invocation, object>()
  const answered = new Set<string>()
  const names: Record<string, string[]> = {}
  const handedOff = () => undefined
  const end = createProcessEnd(
    { log, carried: [], handedOff, companion: noCompanion, hasBegun: true, unsettled },
    {},
    true,
    true,
    undefined,
  )
  for (const [requestId, milliseconds] of Object.entries(deadlines)) {
    const deadline = now() + milliseconds
    names[requestId] = ['audit']
    const unfinished = () => ({ names: names[requestId] as string[], text: '"audit"' })
    const isOpen = () => !answered.has(requestId)
    const invocation = { requestId, isOpen, unfinished, remainingTime: () => deadline - now() }
    unsettled.set(invocation as unknown as Invocation, {})
    end.nameBefore(deadline - 100)
  }
  const named = () => log.of('error').map(line => /request (\w+)/.exec(line)?.[1])
  return { end, log, named, answered, names }
}

const pass = (milliseconds: number) => jest.advanceTimersByTimeAsync(milliseconds)

it('drains at SIGTERM what is carried, also where it is not listed as unsettled', async () => {
  const drained: string[] = []
  const carriedOf = (requestId: string) =>
    ({
      requestId,
      drainWithin: async () => void drained.push(requestId),
      tellUnfinished() {},
      unfinished: () => ({ names: [], text: '' }),
    }) as unknown as Invocation
  const [listed, unlisted] = [carriedOf('listed'), carriedOf('unlisted')]
  const carried = [listed, unlisted]
  const end = createProcessEnd(
    {
      log: recordLog(),
      carried,
      handedOff: () => undefined,
      companion: noCompanion,
      hasBegun: true,
      unsettled: new Map([[listed, {}]]),
    },
    {},
    true,
    true,
    undefined,
  )
  await end.drain()
  expect(drained).toEqual(['listed', 'unlisted'])
  expect(carried).toEqual([])
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
  const { end, names, named } = start({ r1: 1_000 })
  names.r1 = []
  await pass(950)
  expect(named()).toEqual([])
  names.r1 = ['audit']
  end.nameBefore(now() - 50)
  await pass(0)
  expect(named()).toEqual(['r1'])
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
