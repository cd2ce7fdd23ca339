// What subscribers of the diagnostics channels are told, and in what order. The channels are Node's own, and global.
import { AsyncLocalStorage } from 'node:async_hooks'
import { channel, type TracingChannelSubscribers, tracingChannel } from 'node:diagnostics_channel'
import { afterEach, describe, expect, it, jest } from '@jest/globals'
import { onShutdown } from '../../src/index.ts'
import { tellUnstarted, trace } from '../../src/middleware/channels.ts'
import { createInvocation, type InvocationHost, type InvocationOptions } from '../../src/middleware/invocation.ts'
import { functionProcess } from '../../src/middleware/process.ts'
import { recordLog } from './helpers.ts'

type Told = { readonly event: string } & Record<string, unknown>

const unsubscribe: (() => void)[] = []

afterEach(() => {
  for (const stop of unsubscribe.splice(0)) stop()
})

/** Subscribes, and remembers a copy of each message as it was when it came. */
const listen = (name: 'task' | 'hold' | 'shutdown' | 'hook', told: Told[] = []): Told[] => {
  const channels = tracingChannel<unknown, object>(`middy-post-invoke:${name}`)
  const note = (event: string) => (message: object) => void told.push({ event: `${name} ${event}`, ...message })
  const subscribers = Object.fromEntries(
    ['start', 'end', 'asyncStart', 'asyncEnd', 'error'].map(event => [event, note(event)]),
  ) as unknown as TracingChannelSubscribers<object>
  channels.subscribe(subscribers)
  unsubscribe.push(() => void channels.unsubscribe(subscribers))
  return told
}

const listenForUnstarted = (): Told[] => {
  const told: Told[] = []
  const name = 'middy-post-invoke:task:unstarted'
  const note = (message: unknown) => void told.push({ event: 'unstarted', ...(message as object) })
  channel(name).subscribe(note)
  unsubscribe.push(() => void channel(name).unsubscribe(note))
  return told
}

const create = (
  options: Partial<InvocationOptions> = {},
  {
    remainingTime = Number.POSITIVE_INFINITY,
    isHeld = true,
    ...host
  }: Partial<InvocationHost> & { remainingTime?: number; isHeld?: boolean } = {},
) =>
  createInvocation(
    {},
    { awsRequestId: 'r1', getRemainingTimeInMillis: () => remainingTime },
    { isHeld, isHeldByGate: true, reporter: undefined },
    {
      order: 'fifo',
      concurrency: 1,
      taskTimeout: undefined,
      deadlineMargin: 250,
      onTaskError: undefined,
      onDeadline: undefined,
      maxCarried: 100,
      ...options,
    },
    {
      log: recordLog(),
      onDefer: () => {},
      afterSettled: () => {},
      canCarry: () => false,
      carriedOver: [],
      unsettled: new Set(),
      handedOff: () => undefined,
      streaming: () => undefined,
      ...host,
    },
  )

const events = (told: readonly Told[]) => told.map(({ event }) => event)
const failure = new Error('it failed')
const never = () => new Promise<never>(() => {})

describe('channels: a task', () => {
  const facts = { name: 'mail', awsRequestId: 'r1', index: 1, outcome: 'success', carried: false }

  it.each([
    ['returns', () => 42, { status: 'completed' }],
    ['resolves', async () => 42, { status: 'completed' }],
    [
      'throws',
      () => {
        throw failure
      },
      { status: 'failed', error: failure },
    ],
    ['rejects', () => Promise.reject(failure), { status: 'failed', error: failure }],
    ['throws undefined', () => Promise.reject(undefined), { status: 'failed', error: undefined }],
  ])('that %s tells its start and its end', async (_, task, result) => {
    const told = listen('task')
    const invocation = create()
    invocation.defer(task, { name: 'mail' })
    await invocation.leave()
    const error = 'error' in result ? [{ event: 'task error', ...facts, ...result }] : []
    expect(told).toEqual([
      { event: 'task start', ...facts },
      { event: 'task end', ...facts },
      ...error,
      { event: 'task asyncStart', ...facts, ...result },
      { event: 'task asyncEnd', ...facts, ...result },
    ])
  })

  it('that is abandoned tells its end then, and not again when it ends after all', async () => {
    const told = listen('task')
    const late = Promise.withResolvers<void>()
    const invocation = create()
    invocation.defer(() => late.promise, { timeout: 1 })
    await invocation.leave()
    expect(events(told)).toEqual(['task start', 'task end', 'task error', 'task asyncStart', 'task asyncEnd'])
    expect(told.at(-1)).toMatchObject({ status: 'abandoned', error: { code: 'ERR_TASK_TIMEOUT' } })
    late.resolve()
    await late.promise
    await new Promise(resolve => setImmediate(resolve))
    expect(told).toHaveLength(5)
  })

  it('is told from others of its request by its index', async () => {
    const told = listen('task')
    const invocation = create()
    for (let count = 0; count < 3; count++) invocation.defer(() => {}, { name: 'same' })
    await invocation.leave()
    expect(told.filter(({ event }) => event === 'task start').map(({ index }) => index)).toEqual([1, 2, 3])
  })

  it('that an earlier deadline has kept from starting says so in the time of a later request', async () => {
    const told = listen('task')
    const host = { canCarry: () => true, carriedOver: [] }
    const first = create({}, { ...host, remainingTime: 0 })
    first.defer(() => {}, { name: 'late' })
    await first.leave()
    const second = create({}, host)
    second.defer(() => {}, { name: 'own' })
    await second.leave()
    expect(told.flatMap(({ event, name, carried }) => (event === 'task start' ? [[name, carried]] : []))).toEqual([
      ['own', false],
      ['late', true],
    ])
  })

  it('gives all its events one message, to hang things on', async () => {
    const channels = tracingChannel<unknown, object>('middy-post-invoke:task')
    const messages = new Set<unknown>()
    const note = (message: unknown) => void messages.add(message)
    const subscribers = { start: note, end: note, asyncStart: note, asyncEnd: note, error: note }
    channels.subscribe(subscribers)
    unsubscribe.push(() => void channels.unsubscribe(subscribers))
    const invocation = create()
    invocation.defer(() => Promise.reject(failure))
    await invocation.leave()
    expect(messages.size).toBe(1)
  })

  it('runs in what is bound to its start, inside the context in which it was deferred', async () => {
    const span = new AsyncLocalStorage<string>()
    const user = new AsyncLocalStorage<string>()
    const channels = tracingChannel<string, object>('middy-post-invoke:task')
    // What opens the span sees the context in which the task was deferred: that of its parent.
    channels.start.bindStore(span, () => `span of ${user.getStore()}`)
    unsubscribe.push(() => void channels.start.unbindStore(span))
    const seen: unknown[] = []
    const see = () => void seen.push([user.getStore(), span.getStore()])
    const subscribers = { asyncEnd: see } as unknown as TracingChannelSubscribers<object>
    channels.subscribe(subscribers)
    unsubscribe.push(() => void channels.unsubscribe(subscribers))
    const invocation = create()
    user.run('ann', () =>
      invocation.defer(async () => {
        see()
        await new Promise(resolve => setImmediate(resolve))
        see()
      }),
    )
    user.run('bob', () => invocation.defer(see))
    user.run('cy', () => invocation.defer(never, { timeout: 1 })) // its end comes from a timer
    await invocation.leave()
    expect(span.getStore()).toBeUndefined()
    const ann = ['ann', 'span of ann']
    const bob = ['bob', 'span of bob']
    expect(seen).toEqual([ann, ann, ann, bob, bob, ['cy', 'span of cy']])
  })
})

describe('channels: a task that is not started', () => {
  it('because of its outcome is skipped', async () => {
    const told = listenForUnstarted()
    const invocation = create()
    invocation.defer(() => {}, { name: 'sorry', on: 'error' })
    await invocation.leave()
    const facts = { name: 'sorry', awsRequestId: 'r1', index: 1, outcome: 'success', carried: false }
    expect(told).toEqual([{ event: 'unstarted', ...facts, status: 'skipped' }])
  })

  it.each(['carried', 'dropped'] as const)('before the deadline is %s', async status => {
    const told = listenForUnstarted()
    const hold = listen('hold')
    const invocation = create({ onDeadline: status === 'carried' ? 'carry' : 'drop' }, { remainingTime: 0 })
    for (let count = 0; count < 101; count++) invocation.defer(() => {})
    await invocation.leave()
    // More than can be carried are dropped, whatever is wanted: the oldest.
    const all = Array.from({ length: 101 }, (_, index) => ({
      index: index + 1,
      status: index === 0 ? 'dropped' : status,
    }))
    expect(told.map(({ index, status }) => ({ index, status }))).toEqual(all)
    const counts = status === 'carried' ? { failed: 1, carried: 100 } : { failed: 101, carried: 0 }
    expect(hold.at(-1)).toMatchObject({ event: 'hold asyncEnd', tasks: 0, ...counts })
  })
})

describe('channels: a hold', () => {
  it('begins before the first task and ends after the last, with its sums', async () => {
    const told = listen('task', listen('hold'))
    const invocation = create()
    invocation.defer(() => {})
    invocation.defer(async () => {
      invocation.defer(() => Promise.reject(failure))
    })
    invocation.fail()
    const begin = performance.now()
    await invocation.leave()
    const took = performance.now() - begin
    const ends = ['hold start', 'task start', 'task asyncEnd', 'hold asyncEnd']
    expect(events(told).filter(event => ends.includes(event))).toEqual([
      'hold start',
      ...Array(3).fill(['task start', 'task asyncEnd']).flat(),
      'hold asyncEnd',
    ])
    expect(told.find(({ event }) => event === 'hold start')).toEqual({
      event: 'hold start',
      awsRequestId: 'r1',
      outcome: 'error',
    })
    expect(told.at(-1)).toMatchObject({ tasks: 3, failed: 1, carried: 0 })
    expect(told.at(-1)?.milliseconds).toBeGreaterThan(0)
    expect(told.at(-1)?.milliseconds).toBeLessThanOrEqual(took)
  })

  it('is none where nothing was deferred', async () => {
    const told = listen('hold')
    await create().leave()
    expect(told).toEqual([])
  })

  it('is none where nothing holds, though tasks run', async () => {
    const told = listen('hold', listen('task'))
    const invocation = create({}, { isHeld: false })
    invocation.defer(() => {})
    await invocation.leave()
    expect(events(told)).toEqual(['task start', 'task end', 'task asyncStart', 'task asyncEnd'])
  })

  it('is there for handed-off work alone', async () => {
    const told = listen('hold')
    const work = Promise.withResolvers<void>()
    const left = create({}, { handedOff: () => work.promise }).leave()
    await new Promise(resolve => setImmediate(resolve))
    expect(events(told)).toEqual(['hold start', 'hold end'])
    work.resolve()
    await left
    expect(told.at(-1)).toMatchObject({ event: 'hold asyncEnd', tasks: 0, failed: 0, carried: 0 })
  })

  it('is over before the environment is let go', async () => {
    const told = listen('hold')
    const settled = Promise.withResolvers<string[]>()
    const invocation = create({}, { afterSettled: () => settled.resolve(events(told)) })
    invocation.defer(() => {})
    await invocation.leave()
    expect((await settled.promise).at(-1)).toBe('hold asyncEnd')
  })
})

describe('channels: the shutdown', () => {
  /** On a busy machine the time may be over before the first hook begins: then it is done again. */
  const shutDown = async (told: Told[], hooks: Record<string, () => unknown>) => {
    const error = jest.spyOn(console, 'error').mockImplementation(() => {})
    const listen = jest.spyOn(process, 'prependOnceListener').mockReturnValue(process)
    do {
      told.length = 0
      for (const [name, hook] of Object.entries(hooks)) onShutdown(hook, { name })
      await functionProcess().drain()
    } while (!events(told).includes('hook start'))
    error.mockRestore()
    listen.mockRestore()
  }

  it('tells of itself and of each hook', async () => {
    const told = listen('hook', listen('shutdown'))
    await shutDown(told, { last: () => Promise.reject(failure), first: () => {} })
    expect(told).toEqual([
      { event: 'shutdown start', budget: 450, hooks: 2 },
      { event: 'shutdown end', budget: 450, hooks: 2 },
      { event: 'hook start', name: 'first' },
      { event: 'hook end', name: 'first' },
      { event: 'hook asyncStart', name: 'first', status: 'completed' },
      { event: 'hook asyncEnd', name: 'first', status: 'completed' },
      { event: 'hook start', name: 'last' },
      { event: 'hook end', name: 'last' },
      { event: 'hook error', name: 'last', status: 'failed', error: failure },
      { event: 'hook asyncStart', name: 'last', status: 'failed', error: failure },
      { event: 'hook asyncEnd', name: 'last', status: 'failed', error: failure },
      { event: 'shutdown asyncStart', budget: 450, hooks: 2, notRun: [] },
      { event: 'shutdown asyncEnd', budget: 450, hooks: 2, notRun: [] },
    ])
  })

  it('tells which hooks there was no time for', async () => {
    const told = listen('hook', listen('shutdown'))
    const block = () => {
      const end = performance.now() + 600
      while (performance.now() < end);
    }
    await shutDown(told, { third: () => {}, second: () => {}, block })
    expect(told.flatMap(({ event, name }) => (event === 'hook start' ? [name] : []))).toEqual(['block'])
    expect(told.at(-1)).toMatchObject({ event: 'shutdown asyncEnd', hooks: 3, notRun: ['second', 'third'] })
  })

  it('tells of a hook that does not end in time', async () => {
    const told = listen('hook')
    await shutDown(told, { hangs: never })
    expect(told.at(-1)).toMatchObject({ name: 'hangs', status: 'failed', error: { code: 'ERR_SHUTDOWN_TIMEOUT' } })
  })
})

it('channels: nothing is built where nobody subscribes', () => {
  const build = (): never => {
    throw new Error('built')
  }
  for (const name of ['task', 'hold', 'shutdown', 'hook'] as const) expect(trace(name, build)).toBeUndefined()
  expect(() => tellUnstarted(build)).not.toThrow()
  listen('task')
  expect(() => trace('task', build)).toThrow('built')
})
