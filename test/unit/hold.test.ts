import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import { type ExtensionEvent, ExtensionsApiError } from '../../src/extension/extensions-api.ts'
import { Holds, RELEASE_MARGIN_MS, type Release, runHoldLoop } from '../../src/extension/hold.ts'
import { recordLog } from './helpers.ts'

// hold.ts takes its timers from the globals, which these fakes replace.
beforeEach(() => {
  jest.useFakeTimers({ doNotFake: ['nextTick', 'queueMicrotask', 'performance', 'hrtime'] })
})
afterEach(() => {
  jest.useRealTimers()
})

/** Whether, and how, a hold has ended by now. */
const watch = (hold: Promise<Release>) => {
  let how: Release | undefined
  hold.then(release => {
    how = release
  })
  return async () => {
    for (let index = 0; index < 5; index++) await Promise.resolve()
    return how
  }
}

const inAMinute = () => Date.now() + 60_000

describe('a hold', () => {
  it('ends when its request has settled, not when another has', async () => {
    const holds = new Holds()
    const ended = watch(holds.hold('a', inAMinute()))
    expect(holds.held).toBe('a')
    holds.settle('b')
    expect(await ended()).toBeUndefined()
    holds.settle('a')
    expect(await ended()).toBe('settled')
    expect(holds.held).toBeUndefined()
    expect(jest.getTimerCount()).toBe(0)
  })

  it('ends at once when its request had settled before INVOKE', async () => {
    const holds = new Holds()
    holds.settle('a')
    expect(await holds.hold('a', inAMinute())).toBe('settled')
    expect(holds.held).toBeUndefined()
    expect(jest.getTimerCount()).toBe(0)
  })

  it('remembers 16 that settled early, and forgets the oldest', async () => {
    const holds = new Holds()
    for (let index = 0; index < 17; index++) holds.settle(`r${index}`)
    const ended = watch(holds.hold('r0', inAMinute()))
    expect(await ended()).toBeUndefined()
    holds.settle('r0')
    for (let index = 1; index < 17; index++) expect(await holds.hold(`r${index}`, inAMinute())).toBe('settled')
  })

  it('uses what it remembers once: a retry with the same id is held again', async () => {
    const holds = new Holds()
    holds.settle('a')
    expect(await holds.hold('a', inAMinute())).toBe('settled')
    const second = watch(holds.hold('a', inAMinute()))
    expect(await second()).toBeUndefined()
    holds.settle('a')
    expect(await second()).toBe('settled')
    const third = watch(holds.hold('a', inAMinute()))
    expect(await third()).toBeUndefined()
  })

  it('drops a late settled of a request that was released, so that its retry is held', async () => {
    const holds = new Holds()
    const first = holds.hold('a', inAMinute())
    holds.release('unattended')
    expect(await first).toBe('unattended')
    holds.settle('a')
    const retry = watch(holds.hold('a', inAMinute()))
    expect(await retry()).toBeUndefined()
    holds.settle('a')
    expect(await retry()).toBe('settled')
  })

  it('takes the settled of a retry that comes before its INVOKE', async () => {
    const holds = new Holds()
    const first = holds.hold('a', inAMinute())
    holds.settle('a')
    expect(await first).toBe('settled')
    holds.settle('a')
    expect(await holds.hold('a', inAMinute())).toBe('settled')
  })

  it('is capped shortly before the deadline', async () => {
    const holds = new Holds()
    const ended = watch(holds.hold('a', Date.now() + 1_000))
    await jest.advanceTimersByTimeAsync(1_000 - RELEASE_MARGIN_MS - 1)
    expect(await ended()).toBeUndefined()
    await jest.advanceTimersByTimeAsync(1)
    expect(await ended()).toBe('capped')
    expect(holds.held).toBeUndefined()
  })

  it('is capped at once where the deadline has passed', async () => {
    const holds = new Holds()
    const ended = watch(holds.hold('a', Date.now() - 1))
    await jest.advanceTimersByTimeAsync(1)
    expect(await ended()).toBe('capped')
  })

  it('is not capped at once where the deadline is beyond what a timer can count', async () => {
    const holds = new Holds()
    const ended = watch(holds.hold('a', Date.now() + 2 ** 40))
    await jest.advanceTimersByTimeAsync(60_000)
    expect(await ended()).toBeUndefined()
    holds.settle('a')
    expect(await ended()).toBe('settled')
  })

  it('can be ended where nobody takes part, and then nothing is left of it', async () => {
    const holds = new Holds()
    const ended = watch(holds.hold('a', inAMinute()))
    holds.release('unattended')
    holds.release('capped')
    expect(await ended()).toBe('unattended')
    expect(jest.getTimerCount()).toBe(0)
    expect(() => holds.release('unattended')).not.toThrow()
  })

  it('keeps a process running only where it shall', () => {
    const spy = jest.spyOn(globalThis, 'setTimeout')
    new Holds().hold('a', inAMinute())
    new Holds().hold('a', inAMinute(), false)
    expect(spy.mock.results.map(({ value }) => (value as NodeJS.Timeout).hasRef())).toEqual([true, false])
    spy.mockRestore()
  })
})

describe('the loop', () => {
  type Step = ExtensionEvent | Error

  const invoke = (requestId: string): ExtensionEvent => ({ type: 'INVOKE', requestId, deadline: inAMinute() })
  const shutdown: ExtensionEvent = { type: 'SHUTDOWN', reason: 'spindown', deadline: 0 }

  /** Runs the loop over what `next` shall give, step by step. */
  const start = (steps: Step[], onInvoke: (requestId: string) => Promise<void> = async () => {}) => {
    const log = recordLog()
    const calls: string[] = []
    const connection: boolean[] = []
    let asked = 0
    const ended = runHoldLoop({
      api: {
        async next(identifier) {
          calls.push(identifier)
          const step = steps[asked++]
          if (step === undefined) return new Promise(() => {})
          if (step instanceof Error) throw step
          return step
        },
      },
      identifier: 'id',
      log,
      ref: true,
      onInvoke: ({ requestId }) => onInvoke(requestId),
      onConnection: works => connection.push(works),
    })
    return { ended, log, calls, connection, asked: () => asked }
  }

  it('asks for the next event only once the one before is done', async () => {
    const release: (() => void)[] = []
    const loop = start([invoke('a'), invoke('b'), shutdown], () => new Promise(resolve => release.push(resolve)))
    await jest.advanceTimersByTimeAsync(10_000)
    expect(loop.asked()).toBe(1)
    release[0]?.()
    await jest.advanceTimersByTimeAsync(10_000)
    expect(loop.asked()).toBe(2)
    release[1]?.()
    expect(await loop.ended).toEqual(shutdown)
    expect(loop.calls).toEqual(['id', 'id', 'id'])
    expect(loop.log.lines).toEqual([])
    expect(loop.connection).toEqual([])
  })

  it('ignores events that it does not know', async () => {
    const invoked: string[] = []
    const loop = start([{ type: 'UNKNOWN', name: 'NEW' }, invoke('a'), shutdown], async id => void invoked.push(id))
    expect(await loop.ended).toEqual(shutdown)
    expect(invoked).toEqual(['a'])
  })

  it('asks again after errors, at growing intervals, and logs each outage once', async () => {
    const error = new Error('ECONNREFUSED')
    const loop = start([...Array<Error>(8).fill(error), invoke('a'), error, shutdown])
    const times: number[] = []
    for (let elapsed = 0; loop.asked() < 9; elapsed += 50) {
      if (times.length < loop.asked()) times.push(elapsed)
      await jest.advanceTimersByTimeAsync(50)
    }
    expect(times).toEqual([0, 50, 150, 350, 750, 1_550, 3_150, 5_150])
    await jest.advanceTimersByTimeAsync(10_000)
    expect(await loop.ended).toEqual(shutdown)
    expect(loop.log.lines).toEqual([
      { level: 'error', message: 'The next event cannot be had, asking again', error },
      { level: 'error', message: 'The next event cannot be had, asking again', error },
    ])
    expect(loop.connection).toEqual([false, true, false, true])
  })

  it('says so when Lambda refuses it, and still asks', async () => {
    const loop = start([new ExtensionsApiError('GET /next', 403, 'Forbidden'), shutdown])
    await jest.advanceTimersByTimeAsync(1_000)
    expect(await loop.ended).toEqual(shutdown)
    expect(loop.log.of('error')).toEqual(['Lambda refuses us the next event, asking again'])
  })

  it('never asks at a rate that burns the CPU, not in an hour', async () => {
    const loop = start(Array<Error>(100_000).fill(new Error('down')))
    await jest.advanceTimersByTimeAsync(3_600_000)
    expect(loop.asked()).toBeLessThan(2_000)
    expect(loop.asked()).toBeGreaterThan(1_500)
    expect(loop.log.lines).toHaveLength(1)
  })
})
