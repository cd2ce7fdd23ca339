// The middleware and real Middy, outside Lambda: nothing holds, so tasks run right after the handler's answer.
import { AsyncLocalStorage } from 'node:async_hooks'
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import middy from '@middy/core'
import fc from 'fast-check'
import postInvoke, { type Context, defer, type Options, PostInvokeError } from '../../src/index.ts'
import { lambdaContext, thrownBy, turn, turns, until } from './helpers.ts'

expect(process.env.AWS_LAMBDA_RUNTIME_API).toBeUndefined()

const logged = {
  debug: jest.spyOn(console, 'debug'),
  warn: jest.spyOn(console, 'warn'),
  error: jest.spyOn(console, 'error'),
}

beforeEach(() => {
  for (const spy of Object.values(logged)) spy.mockReset()
})

afterEach(async () => {
  await turns(10) // what one test leaves running must not run in the next
})

const pause = (milliseconds: number) => new Promise<void>(resolve => setTimeout(resolve, milliseconds))
const never = () => new Promise<never>(() => {})

type Event = Record<string, any>
type Handler = (event: Event, context: Context) => any

const handlerWith = (handle: Handler, options?: Options, middlewares: middy.MiddlewareObj<any, any>[] = []) =>
  middy<Event, any>()
    .use(postInvoke(options))
    .use(middlewares)
    .handler(async (event, context) => handle(event, context as Context))

describe('outside Lambda', () => {
  it('a task runs after the answer of the handler', async () => {
    const order: string[] = []
    const handler = handlerWith((_event, context) => {
      context.defer(() => void order.push('task'))
      order.push('handler')
      return 'answer'
    })
    expect(await handler({}, lambdaContext()).finally(() => order.push('answered'))).toBe('answer')
    await until(() => order.length === 3)
    expect(order).toEqual(['handler', 'answered', 'task'])
  })

  it('tasks run after all hooks of the middlewares inside', async () => {
    const order: string[] = []
    const handler = middy<Event, any>()
      .use(postInvoke())
      .use({
        before: async request => (request.context as Context).defer(() => void order.push('task of before')),
        after: () => pause(5).then(() => void order.push('after')),
      })
      .handler(async (_event, context) => {
        context.defer(() => void order.push('task of handler'))
        order.push('handler')
      })
    await handler({}, lambdaContext())
    await until(() => order.length === 4)
    expect(order).toEqual(['handler', 'after', 'task of handler', 'task of before'])
  })

  it.each([
    [undefined, ['c', 'b', 'a']],
    ['lifo', ['c', 'b', 'a']],
    ['fifo', ['a', 'b', 'c']],
  ] as const)('order %s', async (order, expected) => {
    const ran: string[] = []
    const handler = handlerWith(
      (_event, context) => {
        for (const name of ['a', 'b', 'c']) context.defer(() => void ran.push(name))
      },
      { order },
    )
    await handler({}, lambdaContext())
    await until(() => ran.length === 3)
    expect(ran).toEqual(expected)
  })

  it.each([
    [undefined, 1],
    [2, 2],
    [10, 6],
  ])('concurrency %s', async (concurrency, expected) => {
    let running = 0
    let most = 0
    let ended = 0
    const handler = handlerWith(
      (_event, context) => {
        for (let index = 0; index < 6; index++) {
          context.defer(async () => {
            most = Math.max(most, ++running)
            await turn()
            running--
            ended++
          })
        }
      },
      { concurrency },
    )
    await handler({}, lambdaContext())
    await until(() => ended === 6)
    expect(most).toBe(expected)
  })

  it('a task deferred by a task runs, however deep', async () => {
    const ran: number[] = []
    const handler = handlerWith((_event, context) => {
      const next = (depth: number) =>
        context.defer(async () => {
          await turn()
          ran.push(depth)
          if (depth < 20) next(depth + 1)
        })
      next(1)
    })
    await handler({}, lambdaContext())
    await until(() => ran.length === 20)
    expect(ran).toEqual(Array.from({ length: 20 }, (_, index) => index + 1))
  })

  it('a failing task is logged by name and request, and disturbs nobody', async () => {
    const ran: string[] = []
    const handler = handlerWith((_event, context) => {
      context.defer(() => void ran.push('first'))
      context.defer(() => Promise.reject(new Error('rejected')), { name: 'rejecting' })
      context.defer(
        () => {
          throw new Error('thrown')
        },
        { name: 'throwing' },
      )
      return 'answer'
    })
    expect(await handler({}, lambdaContext('r7'))).toBe('answer')
    await until(() => ran.length === 1)
    expect(logged.error.mock.calls).toEqual([
      ['middy-post-invoke: task "throwing" of request r7 failed:', new Error('thrown')],
      ['middy-post-invoke: task "rejecting" of request r7 failed:', new Error('rejected')],
    ])
    expect(logged.warn).not.toHaveBeenCalled()
  })

  it('a logger gets the lines from then on, and the console none', async () => {
    const logger = { debug: jest.fn(), warn: jest.fn(), error: jest.fn() }
    try {
      const failure = new Error('mail server')
      const handler = middy()
        .use(postInvoke({ logger }))
        .handler(async (_event: unknown, context: Context) => {
          context.defer(() => Promise.reject(failure), { name: 'mail' })
        })
      await handler({}, lambdaContext('a request'))
      await until(() => logger.error.mock.calls.length > 0)
      expect(logger.error.mock.calls).toEqual([
        [
          'middy-post-invoke: task "mail" of request a request failed:',
          { task: 'mail', requestId: 'a request', error: failure },
        ],
      ])
      expect(logged.error).not.toHaveBeenCalled()
    } finally {
      postInvoke({ logger: console })
    }
  })

  it('promises and thenables are waited for', async () => {
    const order: string[] = []
    const handler = handlerWith((_event, context) => {
      context.defer(() => void order.push('function'))
      context.defer(pause(20).then(() => order.push('promise')))
      context.defer({
        // biome-ignore lint/suspicious/noThenProperty: a promise of another library
        then: (resolve: any) => void setTimeout(() => resolve(order.push('thenable')), 40),
      } as unknown as PromiseLike<unknown>)
    })
    await handler({}, lambdaContext())
    await until(() => order.length === 3)
    expect(order).toEqual(['promise', 'thenable', 'function'])
  })

  it('onTaskError is called with the error and the task', async () => {
    const calls: unknown[] = []
    const handler = handlerWith(
      (_event, context) => context.defer(() => Promise.reject(new Error('rejected')), { name: 'bad' }),
      { onTaskError: (...args) => calls.push(args) },
    )
    await handler({}, lambdaContext('r7'))
    await until(() => calls.length === 1)
    expect(calls).toEqual([[new Error('rejected'), { name: 'bad', awsRequestId: 'r7' }]])
  })

  it('a handler without any context, as in a unit test of a user, works', async () => {
    const ran = jest.fn()
    const handler = handlerWith((_event, context) => context.defer(ran)) as any
    await handler()
    await until(() => ran.mock.calls.length === 1)
  })

  it('an explicit undefined keeps each default', async () => {
    const ran: string[] = []
    const handler = handlerWith(
      (_event, context) => {
        for (const name of ['a', 'b']) context.defer(() => void ran.push(name))
      },
      {
        order: undefined,
        concurrency: undefined,
        taskTimeout: undefined,
        deadlineMargin: undefined,
        onTaskError: undefined,
        withoutCompanion: undefined,
      },
    )
    await handler({}, lambdaContext())
    await until(() => ran.length === 2)
    expect(ran).toEqual(['b', 'a'])
  })

  it('its hooks have names that profiles show, and return nothing', () => {
    const { before, after: afterHook, onError } = postInvoke()
    expect([before?.name, afterHook?.name, onError?.name]).toEqual([
      'postInvokeMiddlewareBefore',
      'postInvokeMiddlewareAfter',
      'postInvokeMiddlewareOnError',
    ])
    const request: any = { event: {}, context: lambdaContext(), response: undefined, error: undefined, internal: {} }
    expect([before?.(request), afterHook?.(request), onError?.(request)]).toEqual([undefined, undefined, undefined])
  })

  it('withoutCompanion does not apply, not even "throw"', async () => {
    const ran = jest.fn()
    const handler = handlerWith((_event, context) => context.defer(ran), { withoutCompanion: 'throw' })
    await handler({}, lambdaContext())
    expect(ran).not.toHaveBeenCalled()
    await until(() => ran.mock.calls.length === 1)
  })
})

describe('the outcome', () => {
  type Seen = { outcome: string; error: unknown }
  const seenBy = async (
    handle: (defer: Context['defer']) => unknown,
    middlewares: middy.MiddlewareObj<any, any, any>[] = [],
    outer: middy.MiddlewareObj<any, any, any>[] = [],
  ) => {
    const seen: Seen[] = []
    const handler = middy<Event, any>()
      .use(outer)
      .use(postInvoke())
      .use({
        before: request =>
          (request.context as Context).defer(({ outcome, error }) => void seen.push({ outcome, error })),
      })
      .use(middlewares)
      .handler(async (_event, context) => handle((context as Context).defer))
    const answer = await handler({}, lambdaContext()).catch(error => ({ rejectedWith: error }))
    await until(() => seen.length === 1)
    return { seen: seen[0] as Seen, answer }
  }

  const throwing = (error: unknown) => () => {
    throw error
  }

  it('is success for an answer', async () => {
    expect(await seenBy(() => 'answer')).toEqual({ seen: { outcome: 'success', error: undefined }, answer: 'answer' })
  })

  it.each([
    ['an error', new Error('handler')],
    ['a text', 'text'],
    ['0', 0],
    ['null', null],
    ['undefined', undefined],
  ])('is error when the handler throws %s', async (_, error) => {
    expect(await seenBy(throwing(error))).toEqual({
      seen: { outcome: 'error', error },
      answer: { rejectedWith: error },
    })
  })

  it('is error when a middleware throws', async () => {
    const error = new Error('after')
    const { seen } = await seenBy(() => 'answer', [{ after: throwing(error) }])
    expect(seen).toEqual({ outcome: 'error', error })
  })

  it.each([
    ['that assigns it', (request: any) => void Object.assign(request, { response: { statusCode: 500 } })],
    ['that returns it', () => ({ statusCode: 500 })],
  ])('stays error when an onError hook makes a response, %s', async (_, onError) => {
    const error = new Error('handler')
    const { seen, answer } = await seenBy(throwing(error), [{ onError }])
    expect(answer).toEqual({ statusCode: 500 })
    expect(seen).toEqual({ outcome: 'error', error })
  })

  it.each([
    ['an error', new Error('handler')],
    ['null', null],
    ['undefined', undefined],
  ])('stays error when an onError hook before ours returns a response for %s', async (_, error) => {
    // In the chain of onError the innermost runs first, and a value that it returns ends the chain.
    const { seen, answer } = await seenBy(throwing(error), [{ onError: () => 'handled' }])
    expect(answer).toBe('handled')
    expect(seen.outcome).toBe('error')
  })

  it.each(['success', 'error'] as const)('decides which tasks run: %s', async outcome => {
    const ran: string[] = []
    await seenBy(defer => {
      for (const on of ['success', 'error', 'always'] as const) defer(() => void ran.push(on), { on })
      if (outcome === 'error') throw new Error('handler')
    })
    expect(ran.sort()).toEqual(['always', outcome].sort())
  })
})

describe('an early return', () => {
  const run = async (place: 'outside' | 'inside', hook: 'before' | 'after' | 'onError') => {
    const ran: string[] = []
    const deferring = {
      before: (request: any) => request.context.defer?.(() => void ran.push('task of before')),
    }
    const early = { [hook]: () => 'early' }
    const handler = middy<Event, any>()
      .use(place === 'outside' ? [early, postInvoke(), deferring] : [postInvoke(), deferring, early])
      .handler(async (_event, context) => {
        ;(context as Context).defer(() => void ran.push('task of handler'))
        if (hook === 'onError') throw new Error('handler')
        return 'answer'
      })
    const answer = await handler({}, lambdaContext())
    await turns(20)
    return { answer, ran }
  }

  it('from a before outside of ours: nothing of ours runs, nor breaks', async () => {
    expect(await run('outside', 'before')).toEqual({ answer: 'early', ran: [] })
  })

  it('from a before inside of ours: what was deferred by then runs', async () => {
    expect(await run('inside', 'before')).toEqual({ answer: 'early', ran: ['task of before'] })
  })

  it.each([
    ['outside', 'after'],
    ['inside', 'after'],
    ['outside', 'onError'],
    ['inside', 'onError'],
  ] as const)('%s of ours, from %s: all runs', async (place, hook) => {
    expect(await run(place, hook)).toEqual({ answer: 'early', ran: ['task of handler', 'task of before'] })
  })

  it('of undefined or null, too', async () => {
    for (const value of [null, 0, '', false]) {
      const ran = jest.fn()
      const handler = middy<Event, any>()
        .use(postInvoke())
        .use({
          before: (request: any) => {
            request.context.defer(ran)
            return value
          },
        })
        .handler(async () => 'answer')
      expect(await handler({}, lambdaContext())).toBe(value)
      await until(() => ran.mock.calls.length === 1)
    }
  })

  it('set as request.earlyResponse by hand', async () => {
    const ran = jest.fn()
    const handler = middy<Event, any>()
      .use(postInvoke())
      .use({
        before: (request: any) => {
          request.context.defer(ran)
          request.earlyResponse = undefined
        },
      })
      .handler(async () => 'answer')
    expect(await handler({}, lambdaContext())).toBeUndefined()
    await until(() => ran.mock.calls.length === 1)
  })

  it('leaves the response readable and writable for other middlewares', async () => {
    const handler = handlerWith(() => ({ count: 1 }), {}, [
      {
        after: request => {
          request.response = { ...request.response, count: request.response.count + 1 }
        },
      },
    ])
    expect(await handler({}, lambdaContext())).toEqual({ count: 2 })
  })

  it('an error thrown by a before outside of ours leaves nothing open', async () => {
    const handler = middy<Event, any>()
      .use({
        before: () => {
          throw new Error('outer')
        },
      })
      .use(postInvoke())
      .handler(async () => 'answer')
    await expect(handler({}, lambdaContext())).rejects.toThrow('outer')
    expect(logged.error).not.toHaveBeenCalled()
  })

  it('an error thrown by an after outside of ours, after ours, runs tasks once', async () => {
    const ran = jest.fn()
    const handler = middy<Event, any>()
      .use({
        after: () => {
          throw new Error('outer')
        },
      })
      .use(postInvoke())
      .handler(async (_event, context) => (context as Context).defer(ran))
    await expect(handler({}, lambdaContext())).rejects.toThrow('outer')
    await turns(20)
    expect(ran).toHaveBeenCalledTimes(1)
  })
})

describe('a handler that Middy ends early for its time', () => {
  it('gets an error where it goes on to defer after its invocation has settled', async () => {
    let later: unknown
    let hasAnswered = false
    const ran: string[] = []
    const handler = middy<Event, any>({ timeoutEarlyInMillis: 10, timeoutEarlyResponse: () => 'timed out' })
      .use(postInvoke())
      .handler(async (_event, context) => {
        context.defer(() => void ran.push('task'))
        await until(() => hasAnswered)
        await turns(20)
        later = thrownBy(() => context.defer(() => void ran.push('too late'))) ?? 'nothing'
      })
    expect(
      await handler(
        {},
        lambdaContext('r1', () => 30),
      ),
    ).toBe('timed out')
    hasAnswered = true
    await until(() => later !== undefined)
    expect(later).toMatchObject({ code: 'ERR_NO_INVOCATION' })
    await turns(20)
    expect(ran).not.toContain('too late')
  })
})

describe('the deadline', () => {
  it('is Lambda’s: tasks are aborted before it and reported', async () => {
    let reason: any
    const handler = handlerWith((_event, context) => {
      context.defer(() => {}, { name: 'waiting' })
      context.defer(
        ({ signal }) => {
          signal.addEventListener('abort', () => {
            reason = signal.reason
          })
          return never()
        },
        { name: 'endless' },
      )
    })
    // On a busy machine no task may begin before it: then it is done again.
    while (reason === undefined) {
      logged.error.mockClear()
      const end = Date.now() + 400
      const context = lambdaContext('r1', () => end - Date.now())
      await handler({}, context)
      await until(() => logged.error.mock.calls.some(([line]) => String(line).includes('"waiting"')))
    }
    expect(reason).toBeInstanceOf(PostInvokeError)
    expect(logged.error.mock.calls).toEqual([
      ['middy-post-invoke: task "endless" of request r1 failed:', reason],
      ['middy-post-invoke: tasks of request r1 could not start before the function\'s deadline: "waiting"'],
    ])
    expect(reason.code).toBe('ERR_TASK_DEADLINE')
  })

  it.each([
    ['is no number', () => Number.NaN],
    ['is endless', () => Number.POSITIVE_INFINITY],
    ['is missing', undefined],
    ['is a text', (() => 'soon') as any],
  ])('that %s aborts nothing', async (_, remaining) => {
    const ran = jest.fn()
    const handler = middy<Event, any>({ timeoutEarlyInMillis: 0 }) // Middy's own timer would be set to such a time
      .use(postInvoke())
      .handler(async (_event, context) => context.defer(ran))
    await handler({}, lambdaContext('r1', remaining))
    await until(() => ran.mock.calls.length === 1)
    expect(logged.error).not.toHaveBeenCalled()
  })

  it('is read with the context as `this`', async () => {
    const ran = jest.fn()
    const handler = middy<Event, any>({ timeoutEarlyInMillis: 0 }) // Middy calls it without `this`
      .use(postInvoke())
      .handler(async (_event, context) => context.defer(ran))
    class LambdaLike {
      awsRequestId = 'r1'
      #deadline = Date.now() + 5_000
      getRemainingTimeInMillis() {
        return this.#deadline - Date.now()
      }
    }
    await handler({}, new LambdaLike() as any)
    await until(() => ran.mock.calls.length === 1)
  })

  it('and the request id are found in a durable context, too', async () => {
    const seen: any[] = []
    const lambda = lambdaContext('durable', () => 5_000)
    const handler = handlerWith((_event, context) => {
      context.defer(task => void seen.push(task.awsRequestId, task.getRemainingTimeInMillis()))
    })
    await handler({}, { lambdaContext: lambda } as any)
    await until(() => seen.length === 2)
    expect(seen[0]).toBe('durable')
    expect(seen[1]).toBeLessThanOrEqual(5_000)
  })
})

describe('a Middy handler that calls another one', () => {
  const inner = middy<Event, any>()
    .use(postInvoke())
    .handler(async (event, context) => {
      context.defer(() => void event.ran.push('inner'))
      return 'inner answer'
    })

  it('runs the tasks of both', async () => {
    const ran: string[] = []
    const handler = handlerWith(async (_event, context) => {
      context.defer(() => void ran.push('outer'))
      return inner({ ran }, context)
    })
    expect(await handler({}, lambdaContext())).toBe('inner answer')
    await until(() => ran.length === 2)
    expect(ran.sort()).toEqual(['inner', 'outer'])
  })

  it('can still defer afterwards, on its context and imported', async () => {
    const ran: string[] = []
    const handler = handlerWith(async (_event, context) => {
      await inner({ ran }, context)
      await turns(20) // by now the inner one has settled, if it is one of its own
      context.defer(() => void ran.push('outer'))
      defer(() => void ran.push('outer, imported'))
      return 'outer answer'
    })
    expect(await handler({}, lambdaContext())).toBe('outer answer')
    await until(() => ran.length === 3)
    expect(ran.sort()).toEqual(['inner', 'outer', 'outer, imported'])
  })

  it('with a context of its own for the inner one, likewise', async () => {
    const ran: string[] = []
    const handler = handlerWith(async (_event, context) => {
      await inner({ ran }, lambdaContext('its own'))
      await turns(20)
      context.defer(({ awsRequestId }) => void ran.push(awsRequestId))
    })
    await handler({}, lambdaContext('outer'))
    await until(() => ran.length === 2)
    expect(ran.sort()).toEqual(['inner', 'outer'])
  })

  it('of which one middleware serves both', async () => {
    const shared = postInvoke()
    const ran: string[] = []
    const innerHandler = middy<Event, any>()
      .use(shared)
      .handler(async (_event, context) => context.defer(() => void ran.push('inner')))
    const handler = middy<Event, any>()
      .use(shared)
      .handler(async (_event, context) => {
        context.defer(() => void ran.push('outer'))
        await innerHandler({}, context)
      })
    await handler({}, lambdaContext())
    await until(() => ran.length === 2)
    expect(ran.sort()).toEqual(['inner', 'outer'])
  })

  it('used twice on one handler runs each task once', async () => {
    const ran = jest.fn()
    const handler = middy<Event, any>()
      .use(postInvoke())
      .use(postInvoke())
      .handler(async (_event, context) => context.defer(ran))
    await handler({}, lambdaContext())
    await turns(20)
    expect(ran).toHaveBeenCalledTimes(1)
  })
})

describe('context.defer after its invocation has settled', () => {
  it('throws', async () => {
    let kept: Context['defer'] | undefined
    const handler = handlerWith((_event, context) => {
      kept = context.defer
    })
    await handler({}, lambdaContext('r3'))
    await turns(20)
    const error = thrownBy(() => kept?.(() => {}))
    expect(error).toBeInstanceOf(PostInvokeError)
    expect(error).toMatchObject({
      name: 'PostInvokeError',
      code: 'ERR_NO_INVOCATION',
      cause: { package: 'middy-post-invoke' },
    })
    expect((error as Error).message).toContain('r3')
  })
})

describe('the imported defer()', () => {
  it('throws outside of any invocation', () => {
    // Nothing that this file calls synchronously from a test without a handler is in one.
    const error = thrownBy(() => defer(() => {}))
    expect(error).toBeInstanceOf(PostInvokeError)
    expect(error).toMatchObject({
      code: 'ERR_NO_INVOCATION',
      message: 'Expected defer() in an invocation behind postInvoke(), got a call outside.',
      cause: { package: 'middy-post-invoke' },
    })
  })

  it('defers many calls down, where no context is at hand', async () => {
    const ran: unknown[] = []
    const library = async () => {
      await turn()
      defer(({ name, awsRequestId }) => void ran.push(name, awsRequestId), { name: 'library' })
    }
    const handler = handlerWith(async () => {
      await Promise.all([library(), pause(1)])
    })
    await handler({}, lambdaContext('r5'))
    await until(() => ran.length === 2)
    expect(ran).toEqual(['library', 'r5'])
  })

  it('is there for the hooks of the middlewares inside, and for tasks', async () => {
    const ran: string[] = []
    const handler = middy<Event, any>()
      .use(postInvoke())
      .use({
        before: () => defer(() => void ran.push('before')),
        after: () => defer(() => void ran.push('after')),
      })
      .handler(async () => {
        defer(() => {
          ran.push('handler')
          defer(() => void ran.push('task'))
        })
      })
    await handler({}, lambdaContext())
    await until(() => ran.length === 4)
    expect(ran).toEqual(['after', 'handler', 'task', 'before'])
  })

  it('belongs to its own one of two invocations side by side', async () => {
    const storage = new AsyncLocalStorage<string>()
    const seen: string[] = []
    const handler = handlerWith(async event => {
      await storage.run(event.user, async () => {
        for (let index = 0; index < 3; index++) {
          await turns(event.pace)
          defer(async ({ awsRequestId }) => {
            await turns(2)
            seen.push(`${awsRequestId} ${storage.getStore()}`)
            defer(task => void seen.push(`${task.awsRequestId} ${storage.getStore()} nested`))
          })
        }
      })
    })
    await Promise.all([
      handler({ user: 'Ann', pace: 1 }, lambdaContext('a')),
      handler({ user: 'Bob', pace: 2 }, lambdaContext('b')),
    ])
    await until(() => seen.length === 12)
    expect(seen.filter(line => line === 'a Ann')).toHaveLength(3)
    expect(seen.filter(line => line === 'b Bob')).toHaveLength(3)
    expect(seen.filter(line => line === 'a Ann nested')).toHaveLength(3)
    expect(seen.filter(line => line === 'b Bob nested')).toHaveLength(3)
  })

  it('belongs to the outer handler again when inner ones, with contexts of their own, are over', async () => {
    const ran: string[] = []
    const deferHere = (name: string) => defer(({ awsRequestId }) => void ran.push(`${name} of ${awsRequestId}`))
    const innermost = handlerWith(() => deferHere('innermost'))
    const inner = handlerWith(async () => {
      await innermost({}, lambdaContext('innermost'))
      await until(() => ran.length === 1)
      await turns(20)
      deferHere('inner')
    })
    const outer = handlerWith(async () => {
      await inner({}, lambdaContext('inner'))
      await until(() => ran.length === 2)
      await turns(20)
      deferHere('outer')
    })
    await outer({}, lambdaContext('outer'))
    await until(() => ran.length === 3)
    expect(ran).toEqual(['innermost of innermost', 'inner of inner', 'outer of outer'])
    await turns(20)
    expect(thrownBy(() => defer(() => {}))).toMatchObject({ code: 'ERR_NO_INVOCATION' })
  })

  it('in a callback left over from an earlier invocation is refused, never given to a later one', async () => {
    const outcomes: unknown[] = []
    const ran: string[] = []
    let strike = () => {}
    const handler = handlerWith(async event => {
      if (event.leaves) {
        // Whoever calls it: the async context of the invocation that made the promise is what counts.
        new Promise<void>(resolve => {
          strike = resolve
        }).then(() => outcomes.push(thrownBy(() => defer(({ awsRequestId }) => void ran.push(awsRequestId)))))
      } else {
        strike()
        await turns(10)
        defer(({ awsRequestId }) => void ran.push(awsRequestId))
      }
    })
    await handler({ leaves: true }, lambdaContext('first'))
    await turns(20)
    await handler({}, lambdaContext('second'))
    await until(() => ran.length > 0)
    await turns(20)
    expect(outcomes).toEqual([expect.objectContaining({ code: 'ERR_NO_INVOCATION' })])
    expect(ran).toEqual(['second'])
  })
})

describe('invocations side by side on one middleware', () => {
  type Task = { pace: number; fails: boolean; nested: Task[] }
  const { task } = fc.letrec<{ task: Task }>(tie => ({
    task: fc.record({
      pace: fc.integer({ min: 0, max: 4 }),
      fails: fc.boolean(),
      nested: fc.oneof({ depthSize: 'small' }, fc.constant<never[]>([]), fc.array(tie('task'), { maxLength: 2 })),
    }),
  }))
  const invocation = fc.record({
    pace: fc.integer({ min: 0, max: 6 }),
    throws: fc.boolean(),
    imported: fc.boolean(),
    tasks: fc.array(task, { maxLength: 4 }),
  })
  const countAll = (tasks: Task[]): number => tasks.reduce((sum, { nested }) => sum + 1 + countAll(nested), 0)

  it('keep their tasks apart, and run each exactly once', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(invocation, { minLength: 2, maxLength: 5 }),
        fc.constantFrom('lifo' as const, 'fifo' as const),
        fc.integer({ min: 1, max: 3 }),
        fc.boolean(),
        async (invocations, order, concurrency, sameId) => {
          for (const spy of Object.values(logged)) spy.mockReset()
          const storage = new AsyncLocalStorage<number>()
          const runs = new Map<string, number>()
          const strangers: unknown[] = []
          let failing = 0
          const most = new Map<number, number>()
          const handler = handlerWith(
            async (event, context) => {
              let count = 0
              let running = 0
              const add = (spec: Task) => {
                const name = `${event.index}.${count++}`
                const act = async ({ awsRequestId, outcome }: any) => {
                  most.set(event.index, Math.max(most.get(event.index) ?? 0, ++running))
                  runs.set(name, (runs.get(name) ?? 0) + 1)
                  if (awsRequestId !== context.awsRequestId || storage.getStore() !== event.index) strangers.push(name)
                  if (outcome !== (event.throws ? 'error' : 'success')) strangers.push(`${name} ${outcome}`)
                  for (const nested of spec.nested) add(nested)
                  await turns(spec.pace)
                  running--
                  if (spec.fails) {
                    failing++
                    throw new Error(name)
                  }
                }
                if (event.imported) defer(act, { name })
                else context.defer(act, { name })
              }
              await storage.run(event.index, async () => {
                for (const spec of event.tasks) {
                  await turns(event.pace)
                  add(spec)
                }
              })
              if (event.throws) throw new Error('handler')
            },
            { order, concurrency },
          )
          await Promise.allSettled(
            invocations.map((given, index) =>
              handler({ ...given, index }, lambdaContext(sameId ? 'same' : `r${index}`)),
            ),
          )
          const expected = invocations.reduce((sum, { tasks }) => sum + countAll(tasks), 0)
          await until(() => runs.size === expected)
          await turns(20)
          expect([...runs.values()].every(times => times === 1)).toBe(true)
          expect(strangers).toEqual([])
          expect(logged.error).toHaveBeenCalledTimes(failing)
          for (const count of most.values()) expect(count).toBeLessThanOrEqual(concurrency)
        },
      ),
      { numRuns: 100 },
    )
  })
})

describe('a second copy of this package, as bundlers make them', () => {
  it('shares invocations with the first', async () => {
    jest.resetModules()
    const copy = await import('../../src/index.ts')
    expect(copy.defer).not.toBe(defer)
    const ran: string[] = []
    const handler = handlerWith(() => {
      copy.defer(({ awsRequestId }) => void ran.push(awsRequestId))
    })
    await handler({}, lambdaContext('r9'))
    await until(() => ran.length === 1)
    expect(ran).toEqual(['r9'])
  })
})

it("has the deadline of Lambda's context in a durable execution, of which Middy copies only other parts", async () => {
  let remaining: number | undefined
  const handler = middy<any, any>()
    .use(postInvoke())
    .handler(async (_event, context) => {
      context.defer(({ getRemainingTimeInMillis }) => {
        remaining = getRemainingTimeInMillis()
      })
    })
  const awsRequestId = 'r1'
  const context = { awsRequestId, lambdaContext: { awsRequestId, getRemainingTimeInMillis: () => 60_000 } }
  await handler({}, context as any)
  await until(() => remaining !== undefined)
  expect(remaining).toBeLessThanOrEqual(60_000)
})
