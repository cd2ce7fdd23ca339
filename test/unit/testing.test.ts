// The test kit: middy-post-invoke/testing.
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import middy from '@middy/core'
import { withPostInvoke } from '../../src/handler.ts'
import postInvoke, { type Context, defer, type Options, onShutdown, resource } from '../../src/index.ts'
import { invoke, reset, send, shutdown, TestingError } from '../../src/testing/index.ts'
import { thrownBy, turns } from './helpers.ts'

const logged = { warn: jest.spyOn(console, 'warn'), error: jest.spyOn(console, 'error') }
beforeEach(() => {
  for (const spy of Object.values(logged)) spy.mockReset()
})
afterEach(reset)

const never = () => new Promise<never>(() => {})

const handlerWith = (handle: (event: any, context: Context) => any, options?: Options) =>
  middy<any, any>()
    .use(postInvoke(options))
    .handler(async (event, context) => handle(event, context as Context))

/** Long enough for a busy machine to begin the tasks before their deadline: the margin is 100 ms. */
const SHORT = { timeout: 1_000 }
const shortly: Options = { deadlineMargin: 100 }

describe('invoke', () => {
  it('gives the answer, and what became of each task, in the order in which they ran', async () => {
    const handler = handlerWith((event, context) => {
      context.defer(() => {}, { name: 'first' })
      context.defer(() => turns(2), { name: 'second' })
      context.defer(() => {}, { name: 'skipped', on: 'error' })
      defer(Promise.resolve(), { name: 'promise' })
      return event.answer
    })
    const { answer, tasks, task } = await invoke(handler, { answer: 42 })
    expect(answer).toBe(42)
    expect(tasks.map(({ name, status }) => `${name} ${status}`)).toEqual([
      'promise completed',
      'skipped skipped',
      'second completed',
      'first completed',
    ])
    expect(task('second')).toMatchObject({ outcome: 'success', duration: expect.any(Number) })
    expect(task('second')).not.toHaveProperty('error')
    expect(task('second').duration).toBeGreaterThan(0)
  })

  it('takes a handler without Middy, and one that defers nothing', async () => {
    const handler = withPostInvoke(async (event: string, context) => {
      context.defer(() => {}, { name: 'task' })
      return event
    })
    expect(await invoke(handler, 'tea')).toMatchObject({ answer: 'tea', tasks: [{ name: 'task' }] })
    expect(await invoke(async (event: string) => event, 'plain')).toMatchObject({ answer: 'plain', tasks: [] })
  })

  it('rejects where tasks fail, with each of them in the message', async () => {
    const broken = new Error('broken')
    const handler = handlerWith((_event, context) => {
      context.defer(() => Promise.reject(broken), { name: 'mail' })
      context.defer(
        () => {
          throw 'a text'
        },
        { name: 'audit' },
      )
      context.defer(() => {}, { name: 'fine' })
    })
    const failed = await invoke(handler, {}).catch(error => error)
    expect(failed).toBeInstanceOf(TestingError)
    expect(failed).toMatchObject({ code: 'TASK_FAILED', errors: ['a text', broken], cause: 'a text' })
    expect(failed.message).toBe(
      `Expected every task to succeed:
  task "audit" failed: 'a text'
  task "mail" failed: broken
A test that expects this passes { failures: 'report' }.`,
    )
    const { task } = await invoke(handler, {}, { failures: 'report' })
    expect(task('mail')).toMatchObject({ status: 'failed', error: broken })
  })

  it('rejects with what the handler throws, after its tasks', async () => {
    const ran = jest.fn()
    const handler = handlerWith((_event, context) => {
      context.defer(({ outcome }) => ran(outcome))
      throw new Error('out of tea')
    })
    await expect(invoke(handler, {})).rejects.toThrow('out of tea')
    expect(ran.mock.calls).toEqual([['error']])
  })

  it('ends a task that never does, and names it', async () => {
    const handler = handlerWith((_event, context) => {
      context.defer(() => {}, { name: 'behind it' })
      context.defer(never, { name: 'endless' })
    }, shortly)
    const failed = await invoke(handler, {}, SHORT).catch(error => error)
    expect(failed).toMatchObject({ code: 'TASK_FAILED', errors: [{ code: 'ERR_TASK_DEADLINE' }] })
    expect(failed.message).toContain('task "endless" abandoned: Expected the tasks of request')
  })

  it('ends a handler that never does', async () => {
    await expect(invoke(never, {}, { timeout: 20 })).rejects.toMatchObject({
      code: 'HANDLER_TIMEOUT',
      message: 'Expected the handler to answer within its timeout of 20 ms.',
    })
  })

  it('runs the tasks where timers are fakes, and ends one that waits for them', async () => {
    const handler = handlerWith(
      (_event, context) => {
        context.defer(() => {}, { name: 'mail' })
        context.defer(() => new Promise(resolve => setTimeout(resolve, 1)), { name: 'waits' })
      },
      { ...shortly, concurrency: 2 },
    )
    jest.useFakeTimers()
    try {
      const { task } = await invoke(handler, {}, { ...SHORT, failures: 'report' })
      expect(task('mail').status).toBe('completed')
      expect(task('waits')).toMatchObject({ status: 'abandoned', error: { code: 'ERR_TASK_DEADLINE' } })
    } finally {
      jest.useRealTimers()
    }
  })

  describe('advanceTimers', () => {
    const sleep = () => new Promise(resolve => setTimeout(resolve, 3_600_000))
    beforeEach(() => void jest.useFakeTimers())
    afterEach(() => void jest.useRealTimers())

    it('lets the handler and one task after the other go on, each at its own time', async () => {
      const times: number[] = []
      const handler = handlerWith(async (_event, context) => {
        const start = Date.now()
        await sleep()
        for (const name of ['first', 'second']) {
          context.defer(() => sleep().then(() => times.push(Date.now() - start)), { name })
        }
        return 'answer'
      })
      const { answer, task } = await invoke(handler, {}, { advanceTimers: jest.advanceTimersToNextTimerAsync })
      expect(answer).toBe('answer')
      expect(times).toEqual([7_200_000, 10_800_000])
      expect(task('first').status).toBe('completed')
    })

    it('lets hooks go on', async () => {
      const remove = onShutdown(sleep, { name: 'sleeps' })
      const { hooks } = await shutdown({ advanceTimers: jest.advanceTimersToNextTimerAsync })
      remove()
      expect(hooks.find(({ name }) => name === 'sleeps')?.status).toBe('completed')
    })

    it('is what the error names where it is missing', async () => {
      const handler = handlerWith((_event, context) => context.defer(sleep, { name: 'mail' }), shortly)
      await expect(invoke(handler, {}, SHORT)).rejects.toMatchObject({
        code: 'TASK_FAILED',
        message: expect.stringContaining('Timers are fakes here, which go on with { advanceTimers }'),
      })
    })

    it('has its error told, and must be a function', async () => {
      const handler = handlerWith((_event, context) => context.defer(sleep), shortly)
      const advanceTimers = () => {
        throw new Error('not enabled')
      }
      await expect(invoke(handler, {}, { ...SHORT, advanceTimers })).rejects.toThrow('not enabled')
      await expect(invoke(handler, {}, { advanceTimers: 'vi' as any })).rejects.toMatchObject({
        code: 'OPTION_INVALID',
        message: "Expected advanceTimers to be a function, got 'vi'.",
      })
    })
  })

  it('ends where a task has blocked the event loop past the deadline, and names it', async () => {
    const handler = handlerWith((_event, context) => {
      context.defer(
        () => {
          const end = performance.now() + SHORT.timeout + 1_400
          while (performance.now() < end);
          return never()
        },
        { name: 'mail' },
      )
    }, shortly)
    await expect(invoke(handler, {}, SHORT)).rejects.toMatchObject({
      code: 'NOT_SETTLED',
      message: expect.stringMatching(/are under way: "mail"\. They block the event loop\.$/),
    })
  })

  it('gives the handler a context like Lambda’s, with what the test asks for', async () => {
    const handler = handlerWith((_event, context) => ({
      ...context,
      remaining: context.getRemainingTimeInMillis(),
    }))
    const { answer } = await invoke(handler, {}, { timeout: 5_000, context: { functionName: 'orders' } })
    expect(answer).toMatchObject({ functionName: 'orders', functionVersion: '$LATEST', memoryLimitInMB: '128' })
    expect(answer.awsRequestId).toMatch(/^[0-9a-f-]{36}$/)
    expect(answer.remaining).toBeGreaterThan(0)
    expect(answer.remaining).toBeLessThanOrEqual(5_000)
  })

  it('leaves nothing of the invocation in the test, not even while it lasts', async () => {
    const { settled } = send(
      withPostInvoke(async () => turns(3)),
      {},
    )
    expect(thrownBy(() => defer(() => {}))).toMatchObject({ code: 'ERR_NO_INVOCATION' })
    await settled
  })

  it('names the tasks that there were, where one is missing', async () => {
    const { task } = await invoke(
      handlerWith((_event, context) => context.defer(() => {}, { name: 'mail' })),
      {},
    )
    expect(thrownBy(() => task('audit'))).toMatchObject({ message: 'Expected a task "audit", got "mail".' })
    const none = await invoke(
      handlerWith(() => {}),
      {},
    )
    expect(thrownBy(() => none.task('audit'))).toMatchObject({ message: 'Expected a task "audit", got none.' })
  })

  it.each<[unknown, unknown, string]>([
    [undefined, {}, 'Expected a handler, got undefined.'],
    [never, null, 'Expected the options to be an object, got null.'],
    [never, { timeout: 0 }, 'Expected the timeout to be a number of milliseconds above 0, got 0.'],
    [never, { timout: 1 }, 'Expected options among timeout, context, advanceTimers, failures, got "timout".'],
    [never, { failures: 'ignore' }, "Expected failures to be 'throw' or 'report', got 'ignore'."],
  ])('refuses %p with %p', async (handler, options, message) => {
    await expect(invoke(handler as any, {}, options as any)).rejects.toMatchObject({ code: 'OPTION_INVALID', message })
  })

  it('refuses to run where the process takes itself for Lambda', async () => {
    process.env.AWS_LAMBDA_RUNTIME_API = '127.0.0.1:1'
    try {
      await expect(invoke(never, {})).rejects.toThrow('Expected no AWS_LAMBDA_RUNTIME_API in a unit test')
    } finally {
      delete process.env.AWS_LAMBDA_RUNTIME_API
    }
  })
})

describe('send', () => {
  it('gives the answer before the tasks run', async () => {
    const order: string[] = []
    const { answered, settled, context } = send(
      handlerWith((_event, { defer }) => defer(() => void order.push('task'), { name: 'mail' })),
      {},
    )
    await answered
    order.push('answered')
    const { task } = await settled
    expect(order).toEqual(['answered', 'task'])
    expect(task('mail').awsRequestId).toBe(context.awsRequestId)
  })

  it('settles also where the handler or a task fails', async () => {
    const { answered, settled } = send(
      handlerWith((_event, context) => {
        context.defer(() => Promise.reject(new Error('task')), { name: 'mail' })
        throw new Error('handler')
      }),
      {},
    )
    await expect(answered).rejects.toThrow('handler')
    expect((await settled).task('mail')).toMatchObject({ status: 'failed', outcome: 'error' })
  })

  it('keeps invocations apart that run side by side', async () => {
    const handler = handlerWith(async (event, context) => {
      await turns(event.turns)
      context.defer(() => turns(event.turns), { name: event.name })
    })
    const sent = [5, 1, 3].map(count => send(handler, { name: `task ${count}`, turns: count }))
    const settled = await Promise.all(sent.map(({ settled }) => settled))
    expect(settled.map(({ tasks }) => tasks.map(({ name }) => name))).toEqual([['task 5'], ['task 1'], ['task 3']])
  })
})

describe('shutdown and reset', () => {
  const taken: (() => void)[] = []
  afterEach(() => {
    for (const take of taken.splice(0)) take()
  })
  const hook = (...args: Parameters<typeof onShutdown>) => void taken.push(onShutdown(...args))

  it('runs the hooks, last in, first out, as often as it is asked to', async () => {
    const ran: string[] = []
    hook(() => void ran.push('first'), { name: 'first' })
    hook(() => turns(1).then(() => void ran.push('second')), { name: 'second' })
    for (let time = 1; time <= 2; time++) {
      const { hooks, tasks } = await shutdown()
      expect(hooks).toMatchObject([
        { name: 'second', status: 'completed' },
        { name: 'first', status: 'completed' },
      ])
      expect(tasks).toEqual([])
      expect(ran).toHaveLength(2 * time)
    }
  })

  it('rejects where hooks fail or have no time', async () => {
    const broken = new Error('broken')
    hook(() => Promise.reject(broken), { name: 'pool' })
    hook(never, { name: 'metrics', timeout: 10 })
    await expect(shutdown()).rejects.toMatchObject({
      code: 'HOOK_FAILED',
      errors: [{ code: 'ERR_SHUTDOWN_TIMEOUT' }, broken],
      message: expect.stringContaining('shutdown hook "pool" failed: broken'),
    })
    hook(never, { name: 'hangs' })
    const { hooks } = await shutdown({ failures: 'report' })
    // How much time is left for those behind it depends on the machine.
    expect(hooks[0]).toMatchObject({ name: 'hangs', status: 'failed' })
    expect(hooks.map(({ name }) => name).sort()).toEqual(['hangs', 'metrics', 'pool'])
  })

  it('tells of hooks for which there is no time', async () => {
    hook(() => {}, { name: 'pool' })
    hook(() => {
      const end = performance.now() + 600
      while (performance.now() < end);
    })
    await expect(shutdown()).rejects.toThrow('shutdown hook "pool" not run')
  })

  it('disposes of resources, which are made anew in the next test', async () => {
    let made = 0
    const disposed: number[] = []
    const sync = resource(
      () => ++made,
      number => void disposed.push(number),
      { name: 'sync' },
    )
    const async = resource(
      async () => ++made,
      number => void disposed.push(number),
      { name: 'async' },
    )
    expect([sync(), await async(), sync()]).toEqual([1, 2, 1])
    expect((await shutdown()).hooks.map(({ name }) => name)).toEqual(['async', 'sync'])
    expect(disposed).toEqual([2, 1])
    expect((await shutdown()).hooks).toEqual([])
    expect([sync(), await async()]).toEqual([3, 4])
    await shutdown()
    expect(disposed).toEqual([2, 1, 4, 3])
  })

  it('leaves hooks as tasks of the shutdown have left them', async () => {
    const ran: string[] = []
    const remove = onShutdown(() => void ran.push('removed'))
    let removeAdded: (() => void) | undefined
    hook(() => {}, { name: 'arms the drain' })
    await carryOver(() => {
      remove()
      removeAdded = onShutdown(() => void ran.push('added'))
    })
    await shutdown({ failures: 'report' })
    await shutdown({ failures: 'report' })
    removeAdded?.()
    expect(ran).toEqual(['added', 'added'])
  })

  it('disposes of a resource whose forerunner could not be made after all', async () => {
    const forerunner = Promise.withResolvers<number>()
    const disposed: number[] = []
    let made = 0
    const use = resource(
      () => (++made === 1 ? forerunner.promise : Promise.resolve(made)),
      number => void disposed.push(number),
      { timeout: 10 },
    )
    const first = use()
    await expect(shutdown()).rejects.toThrow('10 ms')
    expect(await use()).toBe(2)
    forerunner.reject(new Error('refused'))
    await expect(first).rejects.toThrow('refused')
    await shutdown()
    expect(disposed).toEqual([2])
  })

  /** On a busy machine neither task may have begun before the deadline, and both are carried over: then it is done again. */
  const carryOver = async (task = () => {}) => {
    const carrying = handlerWith((_event, context) => {
      context.defer(task, { name: 'carried' })
      context.defer(never, { name: 'endless' })
    }, shortly)
    for (;;) {
      const { task } = await invoke(carrying, {}, { ...SHORT, failures: 'report' })
      expect(task('carried').status).toBe('carried')
      if (task('endless').status === 'abandoned') return
      await reset()
    }
  }

  it('runs tasks that were carried over, and those of a function that timed out', async () => {
    hook(() => {}, { name: 'arms the drain' })
    await carryOver()
    const hanging = send(
      withPostInvoke(async (_event: object, context) => {
        context.defer(() => {}, { name: 'left behind' })
        return never()
      }),
      {},
      { timeout: 20 },
    )
    await expect(hanging.answered).rejects.toMatchObject({ code: 'HANDLER_TIMEOUT' })
    expect((await hanging.settled).tasks).toEqual([])
    const { tasks } = await shutdown()
    expect(tasks).toMatchObject([
      { name: 'left behind', status: 'completed', outcome: 'error' },
      { name: 'carried', status: 'completed', outcome: 'success' },
    ])
    expect((await shutdown()).tasks).toEqual([])
  })

  it('gives a carried task to the next invocation, and reset() drops it', async () => {
    hook(() => {}, { name: 'arms the drain' })
    const idle = handlerWith(() => {})
    await carryOver()
    expect((await invoke(idle, {})).tasks).toMatchObject([{ name: 'carried', status: 'completed' }])
    await carryOver()
    await reset()
    expect((await invoke(idle, {})).tasks).toEqual([])
  })

  it('reset() waits for what is under way', async () => {
    const ran = jest.fn()
    send(
      handlerWith((_event, context) => context.defer(() => turns(3).then(ran))),
      {},
    )
    await reset()
    expect(ran).toHaveBeenCalledTimes(1)
  })
})
