// An invocation by itself, on a clock of our own.
import { AsyncLocalStorage } from 'node:async_hooks'
import { describe, expect, it, jest } from '@jest/globals'
import fc from 'fast-check'
import type { DeferOptions, Task, TaskContext } from '../../src/middleware/defer-input.ts'
import type { Hold, Invocation, InvocationHost, InvocationOptions } from '../../src/middleware/invocation.ts'
import { randomRuns } from '../support/random-runs.ts'
import { followFakeClock } from './fake-clock.ts'
import { type LogLine, recordLog, thrownBy } from './helpers.ts'

followFakeClock()
const { PostInvokeError } = await import('../../src/errors.ts')
const { createInvocation } = await import('../../src/middleware/invocation.ts')
const { timeUntil } = await import('../../src/middleware/process-end.ts')
const { now } = await import('../../src/middleware/waits.ts')

type Setup = {
  options?: Partial<InvocationOptions>
  facts?: Partial<Hold & { requestId: string; tenantId: string; remainingTime: number; hasCompanion: boolean }>
  request?: { error?: unknown }
  host?: Partial<InvocationHost>
}

const create = ({ options, facts, request = {}, host }: Setup = {}) => {
  const log = recordLog()
  /** What the companion was told. */
  const told: string[] = []
  let settled = 0
  let settledAt = 0
  let deferred = 0
  const { hasCompanion = true, requestId = 'r1', tenantId, remainingTime, ...hold } = facts ?? {}
  const companion = {
    wouldLose: (_names: readonly string[], list: string) => void told.push(list),
    hold: () => void told.push('hold'),
    settle: () => void told.push('settled'),
  }
  const invocation = createInvocation(
    request,
    { awsRequestId: requestId, tenantId, getRemainingTimeInMillis: () => remainingTime ?? Number.POSITIVE_INFINITY },
    { isHeld: true, isHeldByGate: false, reporter: hasCompanion ? companion : undefined, ...hold },
    {
      order: 'lifo',
      concurrency: 1,
      taskTimeout: undefined,
      deadlineMargin: 250,
      onTaskError: undefined,
      onDeadline: undefined,
      maxCarried: 100,
      ...options,
    },
    {
      log,
      onDefer: () => void deferred++,
      afterSettled: () => {
        settled++
        settledAt = Date.now()
      },
      canCarry: () => false,
      carriedOver: [],
      unsettled: new Set(),
      handedOff: () => undefined,
      streaming: () => undefined,
      ...host,
    },
  )
  return {
    invocation,
    log,
    told,
    request,
    settled: () => settled,
    settledAt: () => settledAt,
    deferred: () => deferred,
    codes: () =>
      log.lines
        .filter(({ level, error }) => level === 'error' && error !== undefined)
        .map(({ error }) => (error as any).code),
  }
}

/** Lets the fake clock run until a promise has settled, from one timer to the next. */
const passTimeUntil = async (promise: Promise<unknown>) => {
  let done = false
  const end = promise.finally(() => {
    done = true
  })
  for (let steps = 0; !done; steps++) {
    if (steps === 10_000) throw new Error('It did not settle')
    await jest.advanceTimersToNextTimerAsync()
  }
  await end
}

const leave = (invocation: Invocation) => passTimeUntil(invocation.leave())

const never = () => new Promise<never>(() => {})

const pause = (milliseconds: number) => new Promise<void>(resolve => setTimeout(resolve, milliseconds))

/** As code of before `class` makes them: it is a promise, and its `constructor` is Promise. */
function promiseOfOtherClass(): Promise<void> {
  const prototype = Object.create(Promise.prototype, {
    // biome-ignore lint/suspicious/noThenProperty: what a library could do to a promise
    then: {
      value() {
        throw new Error('then of its class')
      },
    },
  })
  return Object.setPrototypeOf(Promise.resolve(), prototype)
}

const onAbort = (signal: AbortSignal) =>
  new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true }))

describe('a log line', () => {
  it('of a failed task has task, request and error as fields', async () => {
    const failure = new Error('onTaskError failed')
    const { invocation, log } = create({ options: { onTaskError: () => Promise.reject(failure) } })
    invocation.defer(() => Promise.reject(new Error('failed')), { name: 'mail' })
    await leave(invocation)
    const fields = { task: 'mail', requestId: 'r1' }
    expect(log.fields).toEqual([fields, fields])
  })

  it('of tasks that are carried over has their own request, also when one fails in the time of another', async () => {
    const carried: Invocation[] = []
    const first = create({
      facts: { remainingTime: 0 },
      options: { onDeadline: 'carry' },
      host: { carriedOver: carried },
    })
    first.invocation.defer(() => Promise.reject(new Error('failed')), { name: 'mail' })
    await leave(first.invocation)
    const second = create({ facts: { requestId: 'r2' }, host: { carriedOver: carried } })
    await leave(second.invocation)
    expect(first.log.fields).toEqual([
      { tasks: ['mail'], requestId: 'r1' },
      { task: 'mail', requestId: 'r1' },
    ])
    expect(second.log.lines).toEqual([])
  })
})

describe('a task', () => {
  it('is not called before the response has left', async () => {
    const { invocation } = create()
    const task = jest.fn()
    invocation.defer(task)
    await jest.advanceTimersByTimeAsync(1_000)
    expect(task).not.toHaveBeenCalled()
    await leave(invocation)
    expect(task).toHaveBeenCalledTimes(1)
  })

  it('is handed name, request, outcome and time', async () => {
    const { invocation } = create({ facts: { remainingTime: 5_000 } })
    let given: TaskContext | undefined
    invocation.defer(
      context => {
        given = context
      },
      { name: 'mail' },
    )
    await jest.advanceTimersByTimeAsync(1_000)
    await leave(invocation)
    expect(given).toMatchObject({ name: 'mail', awsRequestId: 'r1', outcome: 'success', error: undefined })
    expect(given?.getRemainingTimeInMillis()).toBeLessThanOrEqual(4_000)
    expect(given?.getRemainingTimeInMillis()).toBeGreaterThan(0)
    expect(given?.signal.aborted).toBe(false)
    expect(given?.signal).toBe(given?.signal)
  })

  it('has endless time where there is no deadline', async () => {
    const { invocation } = create()
    let remaining: number | undefined
    invocation.defer(({ getRemainingTimeInMillis }) => {
      remaining = getRemainingTimeInMillis()
    })
    await leave(invocation)
    expect(remaining).toBe(Number.POSITIVE_INFINITY)
  })

  it.each<[string, Task, DeferOptions | undefined, string]>([
    ['the given name', function own() {}, { name: 'given' }, 'given'],
    ['its own name', function own() {}, undefined, 'own'],
    ['a number', (() => () => {})(), undefined, 'task 1'],
    ['a number, if it is a promise', Promise.resolve(), undefined, 'task 1'],
    ['the given name, if it is a promise', Promise.resolve(), { name: 'given' }, 'given'],
  ])('is called by %s', async (_, task, options, name) => {
    const { invocation } = create()
    invocation.defer(task as () => unknown, options)
    expect(invocation.unfinished()).toEqual({ names: [name], text: JSON.stringify(name) })
    await leave(invocation)
  })

  it.each<[string, Task | undefined, unknown]>([
    [
      'throws',
      () => {
        throw new Error('thrown')
      },
      new Error('thrown'),
    ],
    ['rejects', () => Promise.reject(new Error('rejected')), new Error('rejected')],
    ['rejects with no error', () => Promise.reject('text'), 'text'],
    [
      'returns a thenable that fails',
      // biome-ignore lint/suspicious/noThenProperty: a promise of another library
      () => ({ then: (_: unknown, reject: (error: unknown) => void) => reject(new Error('foreign')) }),
      new Error('foreign'),
    ],
    [
      'returns a thenable that throws',
      () => ({
        // biome-ignore lint/suspicious/noThenProperty: a promise of another library
        then() {
          throw new Error('then threw')
        },
      }),
      new Error('then threw'),
    ],
    [
      'returns what cannot be looked at',
      () => ({
        // biome-ignore lint/suspicious/noThenProperty: a hostile value
        get then() {
          throw new Error('hostile')
        },
      }),
      new Error('hostile'),
    ],
    [
      'returns what only looks like a promise',
      () => Object.create(Promise.prototype),
      new TypeError('Method Promise.prototype.then called on incompatible receiver #<Promise>'),
    ],
    [
      'returns a promise whose own then throws',
      () =>
        Object.assign(Promise.resolve(), {
          // biome-ignore lint/suspicious/noThenProperty: what a library could do to a promise
          then() {
            throw new Error('own then')
          },
        }),
      new Error('own then'),
    ],
    ['returns a promise of a class whose then throws', promiseOfOtherClass, new Error('then of its class')],
    ['is a promise of a class whose then throws', promiseOfOtherClass(), new Error('then of its class')],
    ['is a rejected promise', undefined, new Error('early')],
  ])('that %s is logged once, and disturbs no other', async (_, task, error) => {
    const { invocation, log } = create()
    const ran: string[] = []
    invocation.defer(() => void ran.push('first'))
    invocation.defer(task ?? Promise.reject(new Error('early')), { name: 'bad' })
    invocation.defer(() => void ran.push('last'))
    await leave(invocation)
    expect(ran).toEqual(['last', 'first'])
    expect(log.lines).toEqual([{ level: 'error', message: 'task "bad" of request r1 failed:', error }])
  })

  it('that is aborted leaves no less time for handed-off work than there is', async () => {
    const left: number[] = []
    const handedOff = (until: number) => void left.push(until - Date.now())
    const { invocation } = create({ facts: { remainingTime: 1_000 }, host: { handedOff } })
    invocation.defer(never)
    await leave(invocation)
    expect(left).toEqual([-100]) // the grace that the task was given
  })

  it('is waited for, if it returns a thenable of another library', async () => {
    const { invocation, log, settled } = create()
    let isSettledBefore: number | undefined
    invocation.defer(() => ({
      // biome-ignore lint/suspicious/noThenProperty: a promise of another library
      then(resolve: (value: unknown) => void) {
        setTimeout(() => {
          isSettledBefore = settled()
          resolve(undefined)
        }, 100)
      },
    }))
    await leave(invocation)
    expect(isSettledBefore).toBe(0)
    expect(log.lines).toEqual([])
  })

  it.each(['success', 'error'] as const)('runs by `on` at the outcome %s', async outcome => {
    const { invocation, log } = create({ request: outcome === 'error' ? { error: new Error('handler') } : {} })
    if (outcome === 'error') invocation.fail()
    const ran: string[] = []
    for (const on of ['success', 'error', 'always'] as const) {
      invocation.defer(context => void ran.push(`${on} at ${context.outcome}`), { on, name: on })
    }
    await leave(invocation)
    expect(ran).toEqual([`always at ${outcome}`, `${outcome} at ${outcome}`].sort())
    const skipped = outcome === 'success' ? 'error' : 'success'
    expect(log.lines).toEqual([
      { level: 'debug', message: `task "${skipped}" of request r1 is not for the outcome ${outcome}` },
    ])
    expect(log.fields).toEqual([{ task: skipped, requestId: 'r1' }])
  })

  it.each([
    ['an error', new Error('handler')],
    ['a text', 'text'],
    ['0', 0],
    ['false', false],
    ['null', null],
    ['undefined', undefined],
  ])('sees what was thrown: %s', async (_, error) => {
    const { invocation } = create({ request: { error } })
    invocation.fail()
    let given: TaskContext | undefined
    invocation.defer(context => {
      given = context
    })
    await leave(invocation)
    expect(given?.outcome).toBe('error')
    expect(given?.error).toBe(error)
  })

  it.each([
    ['an error', new Error('handler'), 'error', new Error('handler')],
    ['null', null, 'success', undefined],
  ])(
    'sees the outcome where our hook was not reached, and %s stands in the request',
    async (_, error, outcome, seen) => {
      const { invocation } = create({ request: { error } })
      let given: TaskContext | undefined
      invocation.defer(context => {
        given = context
      })
      await leave(invocation)
      expect([given?.outcome, given?.error]).toEqual([outcome, seen])
    },
  )

  it('runs in the async context in which it was deferred', async () => {
    const storage = new AsyncLocalStorage<string>()
    const { invocation } = create()
    const seen: unknown[] = []
    storage.run('a', () => invocation.defer(() => void seen.push(storage.getStore())))
    storage.run('b', () => {
      invocation.defer(async () => {
        await pause(1)
        seen.push(storage.getStore())
        invocation.defer(() => void seen.push(`nested in ${storage.getStore()}`))
      })
    })
    await storage.run('c', () => leave(invocation))
    expect(seen).toEqual(['b', 'nested in b', 'a'])
  })

  it('that one defers runs next, before those that wait', async () => {
    const { invocation } = create()
    const ran: string[] = []
    invocation.defer(() => void ran.push('first'))
    invocation.defer(() => {
      ran.push('second')
      invocation.defer(() => void ran.push('nested'))
    })
    await leave(invocation)
    expect(ran).toEqual(['second', 'nested', 'first'])
  })
})

describe('the deadline', () => {
  it('aborts what runs `deadlineMargin` before, no sooner', async () => {
    const { invocation } = create({ facts: { remainingTime: 1_000 }, options: { concurrency: 2 } })
    const signals: AbortSignal[] = []
    const watch = (context: TaskContext) => {
      signals.push(context.signal)
      return onAbort(context.signal)
    }
    invocation.defer(watch)
    invocation.defer(watch)
    const settled = invocation.leave()
    await jest.advanceTimersByTimeAsync(749)
    expect(signals.map(({ aborted }) => aborted)).toEqual([false, false])
    await jest.advanceTimersByTimeAsync(1)
    expect(signals.map(({ aborted }) => aborted)).toEqual([true, true])
    expect(signals[0]?.reason).toBeInstanceOf(PostInvokeError)
    expect(signals[0]?.reason).toMatchObject({
      code: 'ERR_TASK_DEADLINE',
      message: "Expected the tasks of request r1 to end before the function's deadline.",
    })
    await passTimeUntil(settled)
  })

  it('reports a task that never ends once, and lets go before the companions do', async () => {
    const { invocation, log, codes, settled } = create({ facts: { remainingTime: 1_000 } })
    invocation.defer(never, { name: 'endless' })
    const begin = Date.now()
    await leave(invocation)
    expect(codes()).toEqual(['ERR_TASK_DEADLINE'])
    expect(log.of('error')).toEqual(['task "endless" of request r1 failed:'])
    expect(settled()).toBe(1)
    expect(Date.now() - begin).toBeLessThanOrEqual(900)
    expect(invocation.unfinished()).toEqual({ names: [], text: '' })
  })

  it('gives an aborted task a moment to clean up, but not past the companions', async () => {
    const { invocation, codes } = create({ facts: { remainingTime: 1_000 }, options: { deadlineMargin: 100 } })
    invocation.defer(never)
    const begin = Date.now()
    await leave(invocation)
    expect(codes()).toEqual(['ERR_TASK_DEADLINE'])
    expect(Date.now() - begin).toBeLessThanOrEqual(900 + 1) // the least that a timer waits
  })

  it('does not report a task that ends well after its abort', async () => {
    const { invocation, log } = create({ facts: { remainingTime: 1_000 } })
    let cleanedUp = false
    invocation.defer(async ({ signal }) => {
      await onAbort(signal).catch(() => pause(50))
      cleanedUp = true
    })
    await leave(invocation)
    expect(cleanedUp).toBe(true)
    expect(log.lines).toEqual([])
  })

  it('awaits what onTaskError returns by one call of its `then`: queries run at each', async () => {
    let calls = 0
    const query = {
      // biome-ignore lint/suspicious/noThenProperty: as query builders have it
      then(fulfilled: () => void) {
        calls++
        fulfilled()
      },
    }
    const { invocation } = create({ options: { onTaskError: () => query } })
    invocation.defer(() => Promise.reject(new Error('no')))
    await leave(invocation)
    expect(calls).toBe(1)
  })

  it('of tasks is that of handed-off work too', async () => {
    const handedOff = jest.fn<InvocationHost['handedOff']>()
    const { invocation } = create({ facts: { remainingTime: 1_000 }, host: { handedOff } })
    const begin = Date.now()
    await jest.advanceTimersByTimeAsync(100)
    await leave(invocation)
    expect(handedOff.mock.calls).toEqual([[begin + 750, invocation]])
  })

  it('runs what is deferred while handed-off work runs', async () => {
    const order: string[] = []
    let isFirst = true
    const { invocation } = create({
      host: {
        handedOff: (_deadline, given) => {
          if (!isFirst) return undefined
          isFirst = false
          return Promise.resolve().then(() => {
            given?.defer(() => void order.push('deferred'))
            order.push('handed off')
          })
        },
      },
    })
    await leave(invocation)
    expect(order).toEqual(['handed off', 'deferred'])
  })

  it('names a carried task that runs in the time of another, where the process ends', async () => {
    const carried: Invocation[] = []
    const host = { carriedOver: carried, canCarry: () => true }
    const first = create({ facts: { requestId: 'first', remainingTime: 0 }, host })
    let names: readonly string[] = []
    first.invocation.defer(
      () => {
        names = first.invocation.unfinished().names
      },
      { name: 'carried task' },
    )
    await leave(first.invocation)
    expect(carried).toHaveLength(1)
    await leave(create({ facts: { requestId: 'second' }, host }).invocation)
    expect([names, first.invocation.isSettled(), carried]).toEqual([['carried task'], true, []])
  })

  it('takes a carried task that is given up in the time of another out of what that one would lose', async () => {
    const host = { carriedOver: [] as Invocation[], canCarry: () => true }
    const first = create({ facts: { requestId: 'first', remainingTime: 0 }, host })
    first.invocation.defer(() => {}, { name: 'given up' })
    first.invocation.defer(never, { name: 'endless' })
    await leave(first.invocation)
    const second = create({ facts: { requestId: 'second', remainingTime: 1_000 }, host })
    await leave(second.invocation)
    expect(first.log.of('error').at(-1)).toMatch(/^tasks of request first could not start .*: "given up"$/)
    expect(second.told).toEqual([
      'hold',
      ...['of request first: "endless", "given up"', 'of request first: "given up"', ''],
      'settled',
    ])
  })

  it('leaves no timer behind for a thenable that calls back at once', async () => {
    const { invocation, codes } = create()
    invocation.defer(Object.create(Promise.prototype), { name: 'fake', timeout: 60_000 })
    invocation.defer(() => Object.create(Promise.prototype), { name: 'fake', timeout: 60_000 })
    await leave(invocation)
    expect([codes().length, jest.getTimerCount()]).toEqual([2, 0])
  })

  it('reports what could not start in the time of the shutdown as that', async () => {
    const onTaskError = jest.fn()
    const { invocation, log } = create({ options: { onTaskError } })
    invocation.defer(() => {}, { name: 'waits' })
    invocation.defer(never, { name: 'endless' })
    await passTimeUntil(invocation.drainWithin(timeUntil(now() + 500)))
    expect(log.of('error').at(-1)).toBe('tasks of request r1 could not start before the environment ended: "waits"')
    expect(onTaskError).toHaveBeenLastCalledWith(
      expect.objectContaining({
        code: 'ERR_SHUTDOWN',
        message: 'Expected the task "waits" to start before the environment ended.',
      }),
      { name: 'waits', awsRequestId: 'r1' },
    )
  })

  it('reports the tasks that could not be started in one line, and each to onTaskError', async () => {
    const onTaskError = jest.fn()
    const { invocation, log } = create({ facts: { remainingTime: 1_000 }, options: { onTaskError } })
    const task = jest.fn()
    for (const name of ['a', 'b', 'c']) invocation.defer(task, { name })
    invocation.defer(never, { name: 'endless' })
    await leave(invocation)
    expect(task).not.toHaveBeenCalled()
    expect(log.of('error')).toEqual([
      'task "endless" of request r1 failed:',
      'tasks of request r1 could not start before the function\'s deadline: "c", "b", "a"',
    ])
    expect(log.fields.at(-1)).toEqual({ requestId: 'r1', tasks: ['c', 'b', 'a'] })
    expect(onTaskError.mock.calls.map(([error, { name }]: any) => [name, error.code, error.message]).slice(1)).toEqual(
      ['c', 'b', 'a'].map(name => [
        name,
        'ERR_TASK_DEADLINE',
        `Expected the task "${name}" to start before the function's deadline.`,
      ]),
    )
  })

  it('reports very many that could not be started by 50 in a line', async () => {
    const { invocation, log } = create({ facts: { remainingTime: 0 } })
    for (let index = 0; index < 120; index++) invocation.defer(() => {}, { name: 't' })
    await leave(invocation)
    expect(log.of('error').map(line => line.match(/"t"/g)?.length)).toEqual([50, 50, 20])
    expect(log.of('error').join('')).not.toContain('more')
  })

  it('takes a promise that has settled meanwhile for what it is: run, or failed with its own error', async () => {
    const carried: Invocation[] = []
    const onTaskError = jest.fn()
    const { invocation, log } = create({
      facts: { remainingTime: 1_000 },
      options: { onTaskError, onDeadline: 'carry' },
      host: { carriedOver: carried },
    })
    const broken = new Error('broken')
    invocation.defer(pause(100), { name: 'ended' })
    invocation.defer(
      pause(200).then(() => Promise.reject(broken)),
      { name: 'rejected' },
    )
    invocation.defer(pause(5_000), { name: 'under way' })
    invocation.defer(never, { name: 'endless' })
    await leave(invocation)
    expect(carried.map(invocation => invocation.unfinished().names)).toEqual([['under way']])
    expect(log.of('error')).toEqual(['task "endless" of request r1 failed:', 'task "rejected" of request r1 failed:'])
    expect(onTaskError.mock.calls[1]).toEqual([broken, { name: 'rejected', awsRequestId: 'r1' }])
  })

  it('carries nothing over, and says nothing, where all that waits is a promise that has settled', async () => {
    const carried: Invocation[] = []
    const { invocation, log } = create({
      facts: { remainingTime: 0 },
      host: { carriedOver: carried, canCarry: () => true },
    })
    invocation.defer(Promise.resolve())
    await leave(invocation)
    expect([log.lines, carried, invocation.isSettled()]).toEqual([[], [], true])
  })

  it.each([750, 800])('is seen between tasks that never yield, after %i of 750 ms', async passed => {
    const { invocation, log } = create({ facts: { remainingTime: 1_000 } })
    const task = jest.fn()
    invocation.defer(task, { name: 'late' })
    invocation.defer(() => void jest.setSystemTime(Date.now() + passed))
    await leave(invocation)
    expect(task).not.toHaveBeenCalled()
    expect(log.of('error')).toEqual([`tasks of request r1 could not start before the function's deadline: "late"`])
  })

  it('lets nothing start once its timer has struck, even where that was early', async () => {
    const { invocation } = create({ facts: { remainingTime: 1_000 } })
    const task = jest.fn()
    invocation.defer(task)
    invocation.defer(({ signal }) => onAbort(signal).finally(() => jest.setSystemTime(Date.now() - 5)))
    await leave(invocation)
    expect(task).not.toHaveBeenCalled()
  })

  it('takes nothing for lost that is not for the outcome', async () => {
    const { invocation, log } = create({ facts: { remainingTime: 0 } })
    invocation.defer(() => {}, { name: 'wanted', on: 'success' })
    invocation.defer(() => {}, { name: 'skipped', on: 'error' })
    await leave(invocation)
    expect(log.of('error')).toEqual([`tasks of request r1 could not start before the function's deadline: "wanted"`])
    expect(log.of('debug')).toEqual(['task "skipped" of request r1 is not for the outcome success'])
  })

  it('that has passed already lets nothing start, and all is reported', async () => {
    const { invocation, log } = create({ facts: { remainingTime: -5 } })
    const task = jest.fn()
    invocation.defer(task, { name: 'function' })
    invocation.defer(never(), { name: 'promise' })
    await leave(invocation)
    expect(task).not.toHaveBeenCalled()
    expect(log.of('error')).toEqual([
      `tasks of request r1 could not start before the function's deadline: "promise", "function"`,
    ])
  })

  it('ends it all, also where something that was left behind defers in every turn', async () => {
    jest.useRealTimers()
    const { invocation, settledAt } = create({ facts: { remainingTime: 10_000 }, options: { deadlineMargin: 9_750 } })
    const deadline = Date.now() + 10_000
    let accepted = 0
    let refusal: unknown
    const deferOn = () => {
      refusal = thrownBy(() => invocation.defer(() => {}))
      if (refusal) return
      accepted++
      if (Date.now() < deadline) setImmediate(deferOn)
    }
    invocation.defer(() => void setImmediate(deferOn))
    await invocation.leave()
    expect(settledAt()).toBeLessThan(deadline)
    await new Promise(resolve => setTimeout(resolve, 5))
    expect(refusal).toMatchObject({ code: 'ERR_NO_INVOCATION' })
    expect(accepted).toBeGreaterThan(0)
  })

  // From the moment at which the last task has ended to the one at which defer() refuses, microtasks can run.
  it.each([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])(
    'loses nothing that is deferred just then, every %i microtasks',
    async gap => {
      const { invocation, log } = create({ facts: { remainingTime: 1_000 } })
      const accepted: string[] = []
      const refused: string[] = []
      const deferOn = async () => {
        for (let index = 0; index < 30; index++) {
          for (let passed = 0; passed < gap; passed++) await undefined
          const name = `late ${index}`
          if (thrownBy(() => invocation.defer(() => {}, { name }))) refused.push(name)
          else accepted.push(name)
        }
      }
      invocation.defer(({ signal }) => onAbort(signal).catch(() => void deferOn()))
      await leave(invocation)
      await jest.advanceTimersByTimeAsync(1_000)
      expect(accepted.length + refused.length).toBe(30)
      const reported = log.of('error').flatMap(line => line.match(/(?<=")late \d+(?=")/g) ?? [])
      expect(reported.sort()).toEqual(accepted.sort())
    },
  )

  it('is counted from the opening, not from when the response has left', async () => {
    const { invocation, codes } = create({ facts: { remainingTime: 1_000 } })
    const ran: string[] = []
    invocation.defer(() => pause(300).then(() => void ran.push('too late')))
    invocation.defer(() => pause(100).then(() => void ran.push('in time')))
    await jest.advanceTimersByTimeAsync(500)
    await leave(invocation)
    expect(ran).toEqual(['in time'])
    expect(codes()).toEqual(['ERR_TASK_DEADLINE'])
  })
})

describe('a timeout', () => {
  it('aborts its task, and reports it if it does not end', async () => {
    const { invocation, log, codes } = create()
    const ran: string[] = []
    let reason: unknown
    invocation.defer(() => void ran.push('next'))
    invocation.defer(
      ({ signal }) => {
        signal.addEventListener('abort', () => {
          reason = signal.reason
        })
        return never()
      },
      { name: 'slow', timeout: 50 },
    )
    await leave(invocation)
    expect(reason).toMatchObject({
      code: 'ERR_TASK_TIMEOUT',
      message: 'Expected the task "slow" to end within its timeout of 50 ms.',
    })
    expect(codes()).toEqual(['ERR_TASK_TIMEOUT'])
    expect(log.lines[0]?.error).toBe(reason)
    expect(ran).toEqual(['next'])
  })

  it('has aborted the signal also of a task that asks for it only afterwards', async () => {
    const { invocation, log } = create()
    let reason: unknown
    invocation.defer(
      async context => {
        await pause(60)
        reason = context.signal.reason
      },
      { timeout: 50 },
    )
    await leave(invocation)
    expect(reason).toMatchObject({ code: 'ERR_TASK_TIMEOUT' })
    expect(log.lines).toEqual([])
  })

  it('reports what an aborted task rejects with', async () => {
    const { invocation, log } = create()
    const own = new Error('my own')
    invocation.defer(({ signal }) => onAbort(signal).catch(() => Promise.reject(own)), { timeout: 50 })
    await leave(invocation)
    expect(log.lines.map(({ error }) => error)).toEqual([own])
  })

  it('applies to a promise, too', async () => {
    const { invocation, codes } = create()
    invocation.defer(never(), { timeout: 50 })
    await leave(invocation)
    expect(codes()).toEqual(['ERR_TASK_TIMEOUT'])
  })

  it('is told of, and not the deadline, where the deadline comes before the task has cleaned up', async () => {
    const { invocation, codes } = create({ facts: { remainingTime: 1_000 }, options: { deadlineMargin: 100 } })
    invocation.defer(never, { timeout: 850 })
    await leave(invocation)
    expect(codes()).toEqual(['ERR_TASK_TIMEOUT'])
  })

  it('is taskTimeout where the task names none', async () => {
    const { invocation, log } = create({ options: { taskTimeout: 70 } })
    invocation.defer(never, { name: 'by default' })
    invocation.defer(never, { name: 'by its own', timeout: 20 })
    await leave(invocation)
    expect(log.lines.map(({ error }) => (error as Error).message)).toEqual([
      'Expected the task "by its own" to end within its timeout of 20 ms.',
      'Expected the task "by default" to end within its timeout of 70 ms.',
    ])
  })

  it('counts from the start of its task', async () => {
    const { invocation, log } = create()
    invocation.defer(() => pause(60), { timeout: 80 })
    invocation.defer(() => pause(60), { timeout: 80 })
    await leave(invocation)
    expect(log.lines).toEqual([])
  })

  it('that is beyond what a timer can count does not abort at once', async () => {
    const { invocation, log } = create({ facts: { remainingTime: 60_000 } })
    invocation.defer(() => pause(500), { timeout: 2 ** 31 })
    invocation.defer(() => pause(500), { timeout: Number.MAX_SAFE_INTEGER })
    await leave(invocation)
    expect(log.lines).toEqual([])
  })

  it('and the deadline together report a task once', async () => {
    const { invocation, codes } = create({ facts: { remainingTime: 400 } })
    invocation.defer(never, { timeout: 100 })
    await leave(invocation)
    expect(codes()).toEqual(['ERR_TASK_TIMEOUT'])
  })

  it('leaves no timer behind', async () => {
    const { invocation } = create({ facts: { remainingTime: 60_000 } })
    invocation.defer(() => pause(1), { timeout: 30_000 })
    await leave(invocation)
    expect(jest.getTimerCount()).toBe(0)
  })
})

describe('onTaskError', () => {
  const failing = (onTaskError: InvocationOptions['onTaskError'], remainingTime = Number.POSITIVE_INFINITY) => {
    const made = create({ options: { onTaskError }, facts: { remainingTime } })
    made.invocation.defer(
      () => {
        throw new Error('task')
      },
      { name: 'bad' },
    )
    return made
  }

  it('is called after the failure is logged, and its promise is waited for', async () => {
    const seen: unknown[] = []
    const { invocation, log, settled } = failing(async (error, task) => {
      seen.push(error, task, log.lines.length)
      await pause(100)
      seen.push(settled())
    })
    await leave(invocation)
    expect(seen).toEqual([new Error('task'), { name: 'bad', awsRequestId: 'r1' }, 1, 0])
  })

  it.each<[string, InvocationOptions['onTaskError']]>([
    [
      'throws',
      () => {
        throw new Error('hook')
      },
    ],
    ['rejects', () => Promise.reject(new Error('hook'))],
  ])('that %s is logged, and costs nothing else', async (_, onTaskError) => {
    const { invocation, log, settled } = failing(onTaskError)
    const ran = jest.fn()
    invocation.defer(ran)
    const begin = Date.now()
    await leave(invocation)
    expect(Date.now()).toBe(begin) // its end is the end of the wait for it
    expect(log.lines).toEqual([
      { level: 'error', message: 'task "bad" of request r1 failed:', error: new Error('task') },
      { level: 'error', message: 'onTaskError failed for task "bad" of request r1:', error: new Error('hook') },
    ])
    expect(ran).toHaveBeenCalledTimes(1)
    expect(settled()).toBe(1)
  })

  it('that never ends is not waited for past the deadline', async () => {
    const { invocation, settled } = failing(never, 1_000)
    const begin = Date.now()
    await leave(invocation)
    expect(settled()).toBe(1)
    expect(Date.now() - begin).toBeLessThanOrEqual(900)
  })

  it.each([100, 0])('is not waited for once the companions have let go, %i ms before the deadline', async remaining => {
    const onTaskError = jest.fn(never)
    const { invocation, settled } = failing(onTaskError, remaining)
    const spy = jest.spyOn(globalThis, 'setTimeout')
    await leave(invocation)
    expect([onTaskError.mock.calls.length, settled(), spy.mock.calls.length]).toEqual([1, 1, 0])
    spy.mockRestore()
  })

  it('is called for tasks whose time was up, and for those not started', async () => {
    const codes: unknown[] = []
    const { invocation } = create({
      facts: { remainingTime: 1_000 },
      options: { onTaskError: (error, { name }) => codes.push([name, (error as any).code]) },
    })
    invocation.defer(never, { name: 'c' })
    invocation.defer(never, { name: 'b' })
    invocation.defer(never, { name: 'a', timeout: 10 })
    await leave(invocation)
    expect(codes).toEqual([
      ['a', 'ERR_TASK_TIMEOUT'],
      ['b', 'ERR_TASK_DEADLINE'],
      ['c', 'ERR_TASK_DEADLINE'],
    ])
  })
})

describe('onTaskError for what could not start', () => {
  const DEFERRED = 60
  const deferMany = ({ invocation }: ReturnType<typeof create>) => {
    for (let index = 0; index < DEFERRED; index++) invocation.defer(() => {})
  }

  it('is called for each task that was deferred in time', async () => {
    const onTaskError = jest.fn()
    const made = create({ facts: { remainingTime: 1_000 }, options: { onTaskError } })
    deferMany(made)
    await jest.advanceTimersByTimeAsync(750)
    await leave(made.invocation)
    expect(onTaskError).toHaveBeenCalledTimes(DEFERRED)
  })

  it('is called for 50 at the most of those deferred when time was up: it could defer again and again', async () => {
    const onTaskError = jest.fn()
    const made = create({ facts: { remainingTime: 1_000 }, options: { onTaskError } })
    await jest.advanceTimersByTimeAsync(750)
    deferMany(made)
    await leave(made.invocation)
    expect(onTaskError).toHaveBeenCalledTimes(50)
    expect(made.log.of('error').flatMap(line => line.match(/"task \d+"/g))).toHaveLength(DEFERRED)
  })

  it.each<[string, Setup]>([
    ['the deadline', { facts: { remainingTime: 0 } }],
    ['a fault', { host: { streaming: () => Promise.reject(new Error('fault')) } }],
  ])('loses nothing that it defers at %s: that is reported too, again and again up to the bound', async (_, setup) => {
    let calls = 0
    const onTaskError = () => made.invocation.defer(() => {}, { name: `again ${++calls}` })
    const made = create({ ...setup, options: { onTaskError } })
    made.invocation.defer(() => {}, { name: 'first' })
    await leave(made.invocation)
    expect([50, 51]).toContain(calls) // the first one was deferred in time, or not
    const named = made.log.of('error').flatMap(line => line.match(/"(first|again \d+)"/g) ?? [])
    expect(named).toHaveLength(1 + calls)
    expect(made.invocation.unfinished().names).toEqual([])
  })
})

describe('defer()', () => {
  it('is refused once the invocation has settled', async () => {
    const { invocation } = create()
    await leave(invocation)
    const error = thrownBy(() => invocation.defer(() => {}))
    expect(error).toBeInstanceOf(PostInvokeError)
    expect(error).toMatchObject({
      code: 'ERR_NO_INVOCATION',
      message: 'Expected defer() before request r1 settled, got a call after.',
    })
  })

  it('can be taken off the context', async () => {
    const { invocation } = create()
    const { defer } = invocation
    const task = jest.fn()
    defer(task)
    await leave(invocation)
    expect(task).toHaveBeenCalledTimes(1)
  })

  it('tells the host of its first task', () => {
    const { invocation, deferred } = create()
    invocation.defer(() => {})
    invocation.defer(() => {})
    expect(deferred()).toBe(1)
  })

  // What a task leaves running may still defer. Then it must either run or be refused: in silence nothing is lost.
  it.each<[string, (act: () => void) => unknown]>([
    ['a microtask', act => void Promise.resolve().then(act)],
    ['a few microtasks', act => void Promise.resolve().then(() => Promise.resolve().then(() => queueMicrotask(act)))],
    ['nextTick', act => void process.nextTick(act)],
    ['setImmediate', act => void setImmediate(act)],
    ['setImmediate twice', act => void setImmediate(() => setImmediate(act))],
    ['setTimeout', act => void setTimeout(act, 0)],
    ['a later timer', act => void setTimeout(act, 100)],
  ])('called by what a task left behind in %s is run or refused', async (_, leaveBehind) => {
    const { invocation } = create()
    let outcome: unknown = 'not called'
    const late = jest.fn()
    invocation.defer(() => {
      leaveBehind(() => {
        outcome = thrownBy(() => invocation.defer(late))
      })
    })
    await leave(invocation)
    await jest.runAllTimersAsync()
    if (late.mock.calls.length === 0) expect(outcome).toMatchObject({ code: 'ERR_NO_INVOCATION' })
    else expect(outcome).toBeUndefined()
  })

  it('of a promise that rejects before its turn leaves no unhandled rejection', async () => {
    const unhandled = jest.fn()
    process.on('unhandledRejection', unhandled)
    const { invocation, log } = create()
    invocation.defer(Promise.reject(new Error('early')), { name: 'promise' })
    jest.useRealTimers()
    await new Promise(resolve => setTimeout(resolve, 5))
    expect(unhandled).not.toHaveBeenCalled()
    await invocation.leave()
    process.off('unhandledRejection', unhandled)
    expect(log.lines).toEqual([
      { level: 'error', message: 'task "promise" of request r1 failed:', error: new Error('early') },
    ])
  })
})

describe('the response has left: the invocation', () => {
  it('settles at once where nothing was deferred, and writes nothing before', async () => {
    const { invocation, settled, told } = create()
    expect(invocation.close()).toBe(true)
    expect(told).toEqual([])
    invocation.leave()
    for (let index = 0; index < 5; index++) await Promise.resolve()
    expect(settled()).toBe(1)
    expect(told).toEqual(['settled'])
  })

  it('happens once', async () => {
    const { invocation, settled } = create()
    const task = jest.fn()
    invocation.defer(task)
    const [first, second] = [invocation.leave(), invocation.leave()]
    await passTimeUntil(Promise.all([first, second]))
    await invocation.leave()
    expect(task).toHaveBeenCalledTimes(1)
    expect(settled()).toBe(1)
  })

  it('lets the client go on first, unless it waits for us', async () => {
    for (const [isHeldByGate, expected] of [
      [false, 0],
      [true, 1],
    ] as const) {
      const { invocation } = create({ facts: { isHeldByGate } })
      const task = jest.fn()
      invocation.defer(task)
      const settled = invocation.leave()
      for (let index = 0; index < 20; index++) await Promise.resolve()
      expect(task).toHaveBeenCalledTimes(expected)
      await passTimeUntil(settled)
    }
  })

  it('waits for a streamed response', async () => {
    const order: string[] = []
    const { invocation } = create({ host: { streaming: () => pause(100).then(() => void order.push('streamed')) } })
    invocation.defer(() => void order.push('task'))
    await leave(invocation)
    expect(order).toEqual(['streamed', 'task'])
  })

  it('does not wait for ever for a stream', async () => {
    const { invocation, settled } = create({ facts: { remainingTime: 1_000 }, host: { streaming: never } })
    const begin = Date.now()
    await leave(invocation)
    expect(settled()).toBe(1)
    expect(Date.now() - begin).toBeLessThanOrEqual(900)
  })

  it('settles, and says what is lost, at a fault of this package', async () => {
    const { invocation, log, settled } = create({ host: { streaming: () => Promise.reject(new Error('fault')) } })
    invocation.defer(() => {}, { name: 'a' })
    invocation.defer(() => {}, { name: 'b' })
    await leave(invocation)
    expect(settled()).toBe(1)
    expect(log.lines).toEqual([
      { level: 'error', message: 'a fault of middy-post-invoke ended request r1:', error: new Error('fault') },
      { level: 'error', message: `tasks of request r1 could not start before the function's deadline: "b", "a"` },
    ])
  })

  it('tells the companion that it is to hold, which tasks are left as they end, and that nothing is', async () => {
    const { invocation, told } = create()
    invocation.defer(() => pause(1), { name: 'a' })
    invocation.defer(() => pause(1), { name: 'b' })
    await leave(invocation)
    expect(told).toEqual(['"a"', '"b", "a"', 'hold', '"a"', '', 'settled'])
  })

  it('tells what would be lost as it is deferred: a process that is killed in its handler tells nothing any more', async () => {
    const { invocation, told } = create()
    invocation.open()
    invocation.defer(() => {}, { name: 'a' })
    expect(told).toEqual(['"a"'])
    expect(invocation.close()).toBe(false)
    expect(invocation.close()).toBe(true)
    expect(told).toEqual(['"a"'])
    await leave(invocation)
    expect(told).toEqual(['"a"', 'hold', '', 'settled'])
  })

  it('logs a failure before the task is no longer among what would be lost', async () => {
    let toldByThen: string[] = []
    const log = {
      ...recordLog(),
      error: () => {
        toldByThen = [...made.told]
      },
    }
    const made = create({ host: { log } })
    made.invocation.defer(() => Promise.reject(new Error('x')), { name: 'a' })
    await leave(made.invocation)
    expect(toldByThen).toEqual(['"a"', 'hold'])
    expect(made.told).toEqual(['"a"', 'hold', '', 'settled'])
  })

  it('names no more as lost what it has reported as dropped', async () => {
    let toldByThen: string[] = []
    const onTaskError = async () => {
      await pause(10)
      toldByThen = [...made.told]
    }
    const made = create({ facts: { remainingTime: 1_000 }, options: { onTaskError } })
    made.invocation.defer(() => {}, { name: 'a' })
    await jest.advanceTimersByTimeAsync(750)
    await leave(made.invocation)
    expect(toldByThen).toEqual(['"a"', 'hold', ''])
  })

  it('names no more as lost what it has reported as failed, while it carries others over', async () => {
    let toldByThen: string[] = []
    const onTaskError = async () => {
      await pause(10)
      toldByThen = [...made.told]
    }
    const made = create({ facts: { remainingTime: 1_000 }, options: { onTaskError }, host: { canCarry: () => true } })
    made.invocation.defer(() => {}, { name: 'a' })
    made.invocation.defer(Promise.reject(new Error('x')), { name: 'b' })
    await jest.advanceTimersByTimeAsync(750)
    await leave(made.invocation)
    expect(toldByThen).toEqual(['"a"', '"b", "a"', 'hold', '"a"'])
    expect(made.log.of('warn')).toEqual([expect.stringMatching(/carried over: "a"$/)])
  })

  it('names what time was up for, as long as others run', async () => {
    const { invocation } = create({ facts: { remainingTime: 1_000 }, options: { concurrency: 2 } })
    invocation.defer(() => {}, { name: 'not started' })
    invocation.defer(() => pause(760), { name: 'late' })
    invocation.defer(never, { name: 'endless' })
    const left = invocation.leave()
    await jest.advanceTimersByTimeAsync(800)
    expect(invocation.unfinished()).toEqual({ names: ['endless', 'not started'], text: '"endless", "not started"' })
    await passTimeUntil(left)
  })

  it('names 50 of those that run and that wait', async () => {
    const { invocation } = create()
    let seen: ReturnType<Invocation['unfinished']> | undefined
    for (let index = 1; index <= 60; index++) {
      const task = () => {
        seen ??= invocation.unfinished()
      }
      invocation.defer(task, { name: `t${index}` })
    }
    await leave(invocation)
    expect(seen?.names).toHaveLength(50)
    expect(seen?.text).toMatch(/^"t60", .*"t11" and 10 more$/)
  })

  it('names 50 of very many, and tells of them a few dozen times', async () => {
    const { invocation, told } = create()
    for (let index = 1; index <= 10_000; index++) invocation.defer(async () => {}, { name: `t${index}` })
    expect(told).toHaveLength(50)
    expect(invocation.unfinished().names).toHaveLength(50)
    expect(invocation.unfinished().text).toMatch(/ and 9950 more$/)
    invocation.close()
    expect(told.at(-1)).toMatch(/^"t10000", "t9999", .* and 9950 more$/)
    await leave(invocation)
    expect(told.slice(-2)).toEqual(['', 'settled'])
    expect(told.length).toBeLessThanOrEqual(110) // fifty as they come, fifty as they go
  })
})

describe('an invocation', () => {
  it('tells how much of its time is left', async () => {
    const { invocation } = create({ facts: { remainingTime: 5_000 } })
    await jest.advanceTimersByTimeAsync(1_000)
    expect(invocation.remainingTime()).toBe(4_000)
  })

  it('tells the companion how much of its time is left as it is held', async () => {
    const held: number[] = []
    const reporter = { wouldLose() {}, hold: (left: number) => void held.push(left), settle() {} }
    const { invocation } = create({ facts: { remainingTime: 5_000, reporter } })
    invocation.defer(() => {})
    jest.setSystemTime(Date.now() + 1_000)
    await leave(invocation)
    expect(held).toEqual([4_000])
  })

  it('can be joined until the hooks of all its handlers have ended, or its response has left', async () => {
    const { invocation } = create()
    const seen = [invocation.isInHandler()]
    invocation.open()
    invocation.close()
    seen.push(invocation.isInHandler())
    invocation.close()
    seen.push(invocation.isInHandler())
    expect(seen).toEqual([true, true, false])
    const answered = create().invocation // its client told of the answer, and its hooks have not ended
    await leave(answered)
    expect(answered.isInHandler()).toBe(false)
  })
})

describe('an invocation whose end was guessed', () => {
  it('is among the unsettled again while it runs what is deferred later: a process that ends names that', async () => {
    const unsettled = new Set<Invocation>()
    const { invocation } = create({ host: { unsettled } })
    await passTimeUntil(invocation.leave(true))
    expect([...unsettled]).toEqual([])
    invocation.defer(never, { name: 'late' })
    expect([...unsettled]).toEqual([invocation])
    expect(invocation.unfinished().names).toEqual(['late'])
  })

  it('runs what is deferred afterwards, each time: the handler may still be running', async () => {
    const { invocation, settled, told } = create()
    await passTimeUntil(invocation.leave(true))
    const ran: string[] = []
    for (const name of ['first', 'second']) {
      expect(invocation.isSettled()).toBe(true)
      invocation.defer(() => void ran.push(name), { name })
      await jest.advanceTimersByTimeAsync(1)
    }
    expect(ran).toEqual(['first', 'second'])
    expect(settled()).toBe(3)
    const ofOne = (name: string) => ['hold', `"${name}"`, '', 'settled']
    expect(told).toEqual(['settled', ...ofOne('first'), ...ofOne('second')])
  })
})

describe('an invocation at the end of the environment', () => {
  it('runs its tasks as those of a failure, where it has not ended by then', async () => {
    const { invocation, log } = create()
    let given: TaskContext | undefined
    invocation.defer(
      context => {
        given = context
        invocation.defer(() => {}, { name: 'nested', on: 'success' })
      },
      { on: 'error' },
    )
    await passTimeUntil(invocation.drainWithin(timeUntil(now() + 1_000)))
    expect(given?.error).toBeInstanceOf(PostInvokeError)
    expect(given).toMatchObject({
      outcome: 'error',
      error: { code: 'ERR_SHUTDOWN', message: 'Expected request r1 to end before the environment ended.' },
    })
    expect(log.of('debug')).toEqual(['task "nested" of request r1 is not for the outcome error'])
    expect([invocation.isOpen(), invocation.isSettled()]).toEqual([true, false])
  })

  it('gives what runs the time of the shutdown, and no more that of the invocation', async () => {
    const { invocation, codes } = create({ facts: { remainingTime: 1_000 } })
    let aborted = 0
    invocation.defer(({ signal }) => {
      signal.addEventListener('abort', () => {
        aborted = Date.now()
      })
      return never()
    })
    const begin = Date.now()
    const left = invocation.leave()
    await jest.advanceTimersByTimeAsync(500)
    await passTimeUntil(invocation.drainWithin(timeUntil(now() + 500)))
    await passTimeUntil(left)
    expect(aborted - begin).toBe(900)
    expect(codes()).toEqual(['ERR_SHUTDOWN'])
  })

  it('runs its tasks by its own outcome, where its response has left', async () => {
    const { invocation } = create()
    const outcomes: string[] = []
    invocation.defer(({ outcome }) => void outcomes.push(outcome))
    const left = invocation.leave()
    await passTimeUntil(invocation.drainWithin(timeUntil(now() + 1_000)))
    await passTimeUntil(left)
    expect(outcomes).toEqual(['success'])
  })
})

describe('tasks awaited before the answer', () => {
  it('are left to the outer handler, where one has called another', async () => {
    const { invocation } = create({ facts: { isHeld: false } })
    const task = jest.fn()
    invocation.defer(task)
    invocation.open()
    expect(invocation.drainBeforeAnswer()).toBeUndefined()
    invocation.close()
    await passTimeUntil(invocation.drainBeforeAnswer() as Promise<void>)
    expect(task).toHaveBeenCalledTimes(1)
  })

  it('run then, and those deferred later run after it', async () => {
    const { invocation, told } = create({ facts: { isHeld: false } })
    const ran: string[] = []
    invocation.defer(() => void ran.push('before'))
    await passTimeUntil(invocation.drainBeforeAnswer() as Promise<void>)
    expect(ran).toEqual(['before'])
    expect(told).toEqual(['"task 1"', ''])
    expect(invocation.isOpen()).toBe(true)
    invocation.defer(() => void ran.push('after'))
    await leave(invocation)
    expect(ran).toEqual(['before', 'after'])
  })

  it('are none where nothing was deferred', () => {
    const { invocation } = create({ facts: { isHeld: false } })
    expect(invocation.drainBeforeAnswer()).toBeUndefined()
  })

  it('never exceed `concurrency`, also when two handlers of one invocation end together', async () => {
    const { invocation } = create({ facts: { isHeld: false } })
    let running = 0
    let most = 0
    const task = async () => {
      most = Math.max(most, ++running)
      await pause(1)
      running--
    }
    for (let index = 0; index < 4; index++) invocation.defer(task)
    await passTimeUntil(Promise.all([invocation.drainBeforeAnswer(), invocation.drainBeforeAnswer()]))
    expect(most).toBe(1)
  })
})

describe('timers', () => {
  /** Whether each timer that is set may keep the process running. */
  const timersOf = async (facts: Setup['facts'], run: (invocation: Invocation) => Promise<unknown>) => {
    const { invocation } = create({
      facts: { remainingTime: 1_000, ...facts },
      options: { onTaskError: never, concurrency: 2 },
    })
    const spy = jest.spyOn(globalThis, 'setTimeout')
    invocation.defer(never, { timeout: 10 })
    invocation.defer(never)
    await passTimeUntil(run(invocation))
    const refs = spy.mock.results.map(({ value }) => (value as NodeJS.Timeout).hasRef())
    spy.mockRestore()
    return refs
  }

  it('keep no process running while the client waits for its next invocation', async () => {
    const refs = await timersOf({}, invocation => invocation.leave())
    // To the deadline, after it, the two of the timeout, and one for each call of onTaskError.
    expect(refs).toHaveLength(6)
    expect(refs).toEqual(refs.map(() => false))
  })

  it.each<[string, Setup['facts'], (invocation: Invocation) => Promise<unknown> | undefined]>([
    ['the client waits for us', { isHeldByGate: true }, invocation => invocation.leave()],
    ['the answer waits', { isHeld: false }, invocation => invocation.drainBeforeAnswer()],
  ])('keep it running while %s, also where there is no deadline', async (_, facts, run) => {
    const { invocation } = create({ facts: { ...facts } })
    const spy = jest.spyOn(globalThis, 'setTimeout')
    const task = Promise.withResolvers<void>()
    invocation.defer(() => task.promise)
    const end = run(invocation)
    await jest.advanceTimersByTimeAsync(60_000)
    expect(spy.mock.results.map(({ value }) => (value as NodeJS.Timeout).hasRef())).toEqual([true])
    task.resolve()
    await jest.advanceTimersByTimeAsync(1)
    await end
    spy.mockRestore()
    expect(jest.getTimerCount()).toBe(0)
  })

  it('are none where nothing waits and there is no deadline', async () => {
    const { invocation } = create()
    const spy = jest.spyOn(globalThis, 'setTimeout')
    invocation.defer(async () => {})
    await leave(invocation)
    expect(spy).not.toHaveBeenCalled()
    spy.mockRestore()
  })

  it('are all cleared at the end, also when tasks end as they are aborted', async () => {
    const { invocation, log } = create({ facts: { remainingTime: 1_000 } })
    invocation.defer(({ signal }) => onAbort(signal), { timeout: 10 })
    invocation.defer(({ signal }) => onAbort(signal))
    await leave(invocation)
    expect(log.of('error')).toHaveLength(2)
    expect(jest.getTimerCount()).toBe(0)
  })

  it.each<[string, Setup['facts'], (invocation: Invocation) => Promise<unknown>]>([
    ['the client waits for us', { isHeldByGate: true }, invocation => invocation.leave()],
    ['the answer waits', { isHeld: false }, invocation => invocation.drainBeforeAnswer() as Promise<void>],
  ])('keep it running while %s', async (_, facts, run) => {
    const refs = await timersOf(facts, run)
    expect(refs).toHaveLength(6)
    expect(refs).toEqual(refs.map(() => true))
  })
})

describe('for any mixture of tasks', () => {
  const kinds = [
    'sync',
    'throws',
    'resolves',
    'rejects',
    'never',
    'ends at its abort',
    'resolves after its abort',
    'thenable',
    'bad thenable',
    'promise',
    'rejected promise',
    'endless promise',
  ] as const
  type Child = { when: 'start' | 'end' | 'microtask' | 'immediate' | 'timer'; task: Spec }
  type Spec = {
    kind: (typeof kinds)[number]
    delay: number
    on: 'success' | 'error' | 'always'
    timeout: number | undefined
    children: Child[]
  }

  const delay = fc.oneof(fc.constantFrom(0, 1, 10), fc.integer({ min: 0, max: 500 }))
  const { spec } = fc.letrec<{ spec: Spec; child: Child }>(tie => ({
    spec: fc.record({
      kind: fc.constantFrom(...kinds),
      delay,
      on: fc.constantFrom('success', 'error', 'always'),
      timeout: fc.option(fc.integer({ min: 1, max: 400 }), { nil: undefined }),
      children: fc.oneof({ depthSize: 'small' }, fc.constant<never[]>([]), fc.array(tie('child'), { maxLength: 3 })),
    }),
    child: fc.record({
      when: fc.constantFrom('start', 'end', 'microtask', 'immediate', 'timer'),
      task: tie('spec'),
    }),
  }))

  const scenario = fc.record({
    tasks: fc.array(spec, { maxLength: 6 }),
    /** Deferred by something that the handler left running. */
    stray: fc.array(fc.record({ at: delay, task: spec }), { maxLength: 3 }),
    outcome: fc.constantFrom('success' as const, 'error' as const),
    remainingTime: fc.oneof(fc.integer({ min: -10, max: 3_000 }), fc.constant(900_000)),
    deadlineMargin: fc.integer({ min: 100, max: 400 }),
    order: fc.constantFrom('lifo' as const, 'fifo' as const),
    concurrency: fc.integer({ min: 1, max: 3 }),
    taskTimeout: fc.option(fc.integer({ min: 1, max: 400 }), { nil: undefined }),
    onTaskError: fc.constantFrom('none' as const, 'returns' as const, 'throws' as const, 'never' as const),
    isHeldByGate: fc.boolean(),
    beforeAnswer: fc.integer({ min: 0, max: 2 }),
  })

  it('each is run or reported exactly once, and never more than `concurrency` run at a time', async () => {
    await fc.assert(
      fc.asyncProperty(scenario, async given => {
        const accepted: { name: string; spec: Spec }[] = []
        const refusals: unknown[] = []
        const started = new Map<string, number>()
        const endedUnreported = new Set<string>()
        let hookCalls = 0
        const made = create({
          options: {
            order: given.order,
            concurrency: given.concurrency,
            taskTimeout: given.taskTimeout,
            deadlineMargin: given.deadlineMargin,
            onTaskError:
              given.onTaskError === 'none'
                ? undefined
                : () => {
                    hookCalls++
                    if (given.onTaskError === 'throws') throw new Error('hook')
                    return given.onTaskError === 'never' ? never() : undefined
                  },
          },
          facts: {
            remainingTime: given.remainingTime,
            isHeldByGate: given.isHeldByGate,
            isHeld: given.beforeAnswer === 0,
          },
          request: given.outcome === 'error' ? { error: new Error('handler') } : {},
        })
        const { invocation, log } = made
        if (given.outcome === 'error') invocation.fail()
        const isNotStarted = ({ message }: LogLine, name: string) =>
          message.startsWith('tasks of request r1 could not start') && message.includes(`"${name}"`)
        const reports = (name: string) =>
          log.lines.filter(line => line.message.startsWith(`task "${name}" of request r1 `) || isNotStarted(line, name))

        let count = 0
        let most = 0
        /** Started and not ended. One that has been reported is no longer waited for. */
        const active = new Set<string>()
        const defer = (spec: Spec) => {
          const name = `t${++count}`
          const isPromise = spec.kind.endsWith('promise')
          const options: DeferOptions = {
            name,
            timeout: spec.timeout,
            on: isPromise ? 'always' : spec.on,
          }
          try {
            invocation.defer((isPromise ? promiseOf(name, spec) : taskOf(name, spec)) as () => unknown, options)
            accepted.push({ name, spec })
          } catch (error) {
            refusals.push(error)
          }
        }
        const ended = (name: string) => {
          active.delete(name)
          if (reports(name).length === 0) endedUnreported.add(name)
        }
        const deferChildren = (spec: Spec, at: 'start' | 'end') => {
          for (const { when, task } of spec.children) {
            if (when === at) defer(task)
            else if (at === 'end') continue
            else if (when === 'microtask') queueMicrotask(() => defer(task))
            else if (when === 'immediate') setImmediate(() => defer(task))
            else if (when === 'timer') setTimeout(() => defer(task), task.delay)
          }
        }
        const promiseOf = (name: string, spec: Spec): Promise<unknown> => {
          if (spec.kind === 'endless promise') return never()
          return pause(spec.delay).then(() => {
            deferChildren(spec, 'end')
            if (spec.kind === 'rejected promise') throw new Error('rejected')
            ended(name)
          })
        }
        const taskOf = (name: string, spec: Spec) => (context: TaskContext) => {
          started.set(name, (started.get(name) ?? 0) + 1)
          active.add(name)
          most = Math.max(most, [...active].filter(other => reports(other).length === 0).length)
          expect(context.outcome).toBe(given.outcome)
          deferChildren(spec, 'start')
          const end = () => {
            deferChildren(spec, 'end')
            ended(name)
          }
          const fail = (error: unknown): never => {
            active.delete(name)
            throw error
          }
          switch (spec.kind) {
            case 'sync':
              return end()
            case 'throws':
              return fail(new Error('thrown'))
            case 'thenable':
              return {
                // biome-ignore lint/suspicious/noThenProperty: a promise of another library
                then: (resolve: (value: unknown) => void) => void setTimeout(() => resolve(end()), spec.delay),
              }
            case 'bad thenable':
              return {
                // biome-ignore lint/suspicious/noThenProperty: a promise of another library
                then: () => fail(new Error('then threw')),
              }
            case 'never':
              return never()
            case 'ends at its abort':
              return onAbort(context.signal).catch(fail)
            case 'resolves after its abort':
              return onAbort(context.signal)
                .catch(() => pause(spec.delay))
                .then(end)
            case 'rejects':
              return pause(spec.delay).then(() => {
                deferChildren(spec, 'end')
                fail(new Error('rejected'))
              })
            default:
              return pause(spec.delay).then(end)
          }
        }

        const begin = Date.now()
        for (const task of given.tasks) defer(task)
        for (const { at, task } of given.stray) setTimeout(() => defer(task), at)
        const before = Array.from({ length: given.beforeAnswer }, () => invocation.drainBeforeAnswer())
        await passTimeUntil(Promise.all(before))
        const left = Date.now()
        await leave(invocation)

        // At the latest when the companions let go; each wait that is over by then still costs a timer's least time.
        const latest = Math.max(left, begin + given.remainingTime - 100)
        expect(made.settledAt()).toBeLessThanOrEqual(latest + 2 * (accepted.length + 1))
        const startedBySettled = [...started.values()].reduce((sum, times) => sum + times, 0)
        const verify = () => {
          for (const { name, spec } of accepted) {
            const lines = reports(name)
            expect([name, lines.length]).toEqual([name, endedUnreported.has(name) ? expect.any(Number) : 1])
            expect(lines.length).toBeLessThanOrEqual(1)
            if (spec.kind.endsWith('promise')) continue // its end does not depend on us, so it may end and be late as well
            expect([name, lines.length === 1]).toEqual([name, !endedUnreported.has(name)])
            const hasNotStarted = lines.some(line => line.level === 'debug' || isNotStarted(line, name))
            expect([name, started.get(name) ?? 0]).toEqual([name, hasNotStarted ? 0 : 1])
          }
        }
        verify()
        // What is still running by then can change nothing any more.
        await jest.advanceTimersByTimeAsync(5_000)
        verify()
        expect([...started.values()].reduce((sum, times) => sum + times, 0)).toBe(startedBySettled)
        expect(refusals.filter(error => (error as any).code !== 'ERR_NO_INVOCATION')).toEqual([])
        expect(accepted.length + refusals.length).toBe(count)
        expect(made.settled()).toBe(1)
        expect(invocation.unfinished()).toEqual({ names: [], text: '' })
        if (given.onTaskError !== 'none') {
          expect(hookCalls).toBe(
            accepted.filter(({ name }) => reports(name).some(({ level }) => level === 'error')).length,
          )
        }
        expect(most).toBeLessThanOrEqual(given.concurrency)
        jest.clearAllTimers()
      }),
      { numRuns: randomRuns({ seed: 1, runs: 300 }).runs },
    )
  })
})

describe('tasks that the deadline has kept from starting', () => {
  /** Invocations of one process, which carry over to each other. */
  const createProcess = (options: Partial<InvocationOptions> = {}) => {
    const carried: Invocation[] = []
    const ran: string[] = []
    const host: Partial<InvocationHost> = { canCarry: () => true, carriedOver: carried }
    const run = async (requestId: string, remainingTime: number, tasks: string[], facts = {}) => {
      const created = create({ options, host, facts: { requestId, remainingTime, ...facts } })
      for (const name of tasks) {
        created.invocation.defer(
          ({ awsRequestId, outcome, signal, getRemainingTimeInMillis }) =>
            void ran.push(
              `${name} of ${awsRequestId}, ${outcome}, ${signal.aborted}, ${getRemainingTimeInMillis() > 0}`,
            ),
          { name },
        )
      }
      await leave(created.invocation)
      return created
    }
    return { run, ran, carried, host }
  }
  const TOO_LATE = 10
  const carriedOver = (names: string) =>
    `tasks of request r1 could not start before the function's deadline, and are carried over: ${names}`
  const dropped = (names: string) => `tasks of request r1 could not start before the function's deadline: ${names}`

  it.each(['lifo', 'fifo'] as const)(
    'run after the next own ones, the oldest request first, as their own request (%s)',
    async order => {
      const { run, ran, carried } = createProcess({ order })
      const { log } = await run('r1', TOO_LATE, ['a', 'b'])
      await run('r2', TOO_LATE, ['c'])
      expect(ran).toEqual([])
      const inOrder = order === 'lifo' ? ['b', 'a'] : ['a', 'b']
      expect(log.lines).toEqual([{ level: 'warn', message: carriedOver(inOrder.map(name => `"${name}"`).join(', ')) }])
      await run('r3', 10_000, ['own'])
      expect(ran).toEqual([
        'own of r3, success, false, true',
        ...inOrder.map(name => `${name} of r1, success, false, true`),
        'c of r2, success, false, true',
      ])
      expect(carried).toEqual([])
    },
  )

  it.each([
    ["a companion's process", { isHeldByGate: false, hasCompanion: true }],
    ['the gate', { isHeldByGate: true, hasCompanion: false }],
  ])('are carried over alike where %s holds', async (_, facts) => {
    const { run, ran } = createProcess()
    const { log } = await run('r1', TOO_LATE, ['a'], facts)
    expect(log.lines).toEqual([{ level: 'warn', message: carriedOver('"a"') }])
    await run('r2', 10_000, [], facts)
    expect(ran).toEqual(['a of r1, success, false, true'])
  })

  it('keep their invocation open to what they defer, until they have ended', async () => {
    const { host, run } = createProcess()
    const ran: string[] = []
    const { invocation } = create({ host, facts: { remainingTime: TOO_LATE } })
    invocation.defer(() => {
      ran.push('outer')
      invocation.defer(() => void ran.push('inner'))
    })
    await leave(invocation)
    expect([invocation.isSettled(), invocation.unfinished().names]).toEqual([false, ['task 1']])
    await run('r2', 10_000, [])
    expect(ran).toEqual(['outer', 'inner'])
    expect(invocation.isSettled()).toBe(true)
    expect(thrownBy(() => invocation.defer(() => {}))).toMatchObject({ code: 'ERR_NO_INVOCATION' })
  })

  it('are named by the companion as what would be lost with the request in whose time they run', async () => {
    const { run, host } = createProcess()
    await run('r1', TOO_LATE, ['a'])
    const { invocation, told } = create({ host, facts: { requestId: 'r2', remainingTime: 10_000 } })
    invocation.defer(() => pause(1), { name: 'own' })
    await leave(invocation)
    expect(told).toEqual(['"own"', 'hold', '', 'of request r1: "a"', '', 'settled'])
  })

  it('are named beside what is deferred meanwhile', async () => {
    const { host } = createProcess()
    const first = create({ host, facts: { remainingTime: TOO_LATE } })
    first.invocation.defer(() => second.invocation.defer(() => {}, { name: 'b' }), { name: 'a' })
    await leave(first.invocation)
    const second = create({ host, facts: { requestId: 'r2', remainingTime: 10_000 } })
    await leave(second.invocation)
    expect(second.told).toEqual(['hold', 'of request r1: "a"', '"b", and of request r1: "a"', '"b"', '', 'settled'])
  })

  it('are carried once: taken over and kept from starting again, they are reported', async () => {
    const { host, carried, ran } = createProcess()
    const first = create({ host, facts: { remainingTime: TOO_LATE } })
    first.invocation.defer(() => void ran.push('a'), { name: 'a' })
    // It runs first, and takes all the time there is.
    first.invocation.defer(() => void jest.setSystemTime(Date.now() + 200), { name: 'b' })
    await leave(first.invocation)
    const second = create({ host, facts: { requestId: 'r2', remainingTime: 400 } })
    await leave(second.invocation)
    expect(ran).toEqual([])
    expect(carried).toEqual([])
    expect(first.log.of('error')).toEqual([dropped('"a"')])
    expect(first.invocation.isSettled()).toBe(true)
  })

  it.each([TOO_LATE, 250])('wait for another invocation where this one has no time either: %i ms', async remaining => {
    const { run, ran } = createProcess()
    await run('r1', TOO_LATE, ['a'])
    const { told } = await run('r2', remaining, [])
    expect(ran).toEqual([])
    expect(told).toEqual(['settled']) // nothing was held for them
    await run('r3', 10_000, [])
    expect(ran).toEqual(['a of r1, success, false, true'])
  })

  it.each([150, 200])('wait for another invocation where own tasks take all the time: %i of 150 ms', async passed => {
    const { run, ran, host } = createProcess()
    const first = await run('r1', TOO_LATE, ['a'])
    const { invocation } = create({ host, facts: { requestId: 'r2', remainingTime: 400 } })
    invocation.defer(() => void jest.setSystemTime(Date.now() + passed))
    await leave(invocation)
    expect([ran, first.log.of('error')]).toEqual([[], []])
    await run('r3', 10_000, [])
    expect(ran).toEqual(['a of r1, success, false, true'])
  })

  it('of which there are too many are dropped with a line, the oldest first', async () => {
    const { run, ran } = createProcess({ maxCarried: 2, order: 'fifo' })
    const first = await run('r1', TOO_LATE, ['a', 'b', 'c'])
    expect(first.log.of('error')).toEqual([dropped('"a"')])
    await run('r2', TOO_LATE, ['d'])
    expect(first.log.of('error')).toEqual([dropped('"a"'), dropped('"b"')])
    expect(first.invocation.isSettled()).toBe(false)
    await run('r3', 10_000, [])
    expect(ran.map(text => text[0])).toEqual(['c', 'd'])
  })

  it('of which all are too many leave no invocation behind', async () => {
    const { run, carried } = createProcess({ maxCarried: 1 })
    const first = await run('r1', TOO_LATE, ['a'])
    await run('r2', TOO_LATE, ['b'])
    expect(first.log.of('error')).toEqual([dropped('"a"')])
    expect(carried.map(({ requestId }) => requestId)).toEqual(['r2'])
    expect(first.invocation.isSettled()).toBe(true)
  })

  it.each([
    ['onDeadline: drop', { onDeadline: 'drop' as const }, {}],
    ['nothing holds', {}, { isHeld: false }],
  ])('are dropped where %s', async (_, options, facts) => {
    const { run, carried } = createProcess(options)
    const { log } = await run('r1', TOO_LATE, ['a'], facts)
    expect(log.lines).toEqual([{ level: 'error', message: dropped('"a"') }])
    expect(carried).toEqual([])
  })

  it('are dropped by default where no drain is registered, and carried there if asked for', async () => {
    const byDefault = create({ facts: { remainingTime: TOO_LATE } })
    byDefault.invocation.defer(() => {}, { name: 'a' })
    await leave(byDefault.invocation)
    expect(byDefault.log.of('error')).toEqual([dropped('"a"')])
    const carried: Invocation[] = []
    const asked = create({
      facts: { remainingTime: TOO_LATE },
      options: { onDeadline: 'carry' },
      host: { carriedOver: carried },
    })
    asked.invocation.defer(() => {})
    await leave(asked.invocation)
    expect(asked.log.of('error')).toEqual([])
    expect(carried).toEqual([asked.invocation])
  })

  it('run at the end of the environment, with what they defer', async () => {
    const { host } = createProcess()
    const ran: string[] = []
    const { invocation } = create({ host, facts: { remainingTime: TOO_LATE } })
    invocation.defer(({ outcome }) => {
      ran.push(`outer, ${outcome}`)
      invocation.defer(context => void ran.push(`inner, ${context.outcome}`))
    })
    await leave(invocation)
    expect(ran).toEqual([])
    await passTimeUntil(invocation.drainWithin(timeUntil(now() + 1_000)))
    expect(ran).toEqual(['outer, success', 'inner, success'])
  })
})
