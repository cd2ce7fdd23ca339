// All the ways in which a request of the real Middy can end, with other middlewares around: whatever they do, the caller gets
// what it would get without us, and what was deferred runs once the request has ended.
import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import middy from '@middy/core'
import postInvoke, { defer, type Options } from '../../src/index.ts'
import { reset, send } from '../../src/testing/index.ts'
import { version } from '../../src/version.ts'
import { lambdaContext, thrownBy, turns, until } from './helpers.ts'
import { type PipeReader, startPipeReader } from './pipe-reader.ts'

const SHARED = Symbol.for(`middy-post-invoke/${version}`)
const globals = globalThis as any
const logged = { warn: jest.spyOn(console, 'warn'), error: jest.spyOn(console, 'error') }
let layer: PipeReader | undefined
let count = 0

const variables = () => Object.keys(process.env).filter(name => /^(POST_INVOKE|AWS_LAMBDA)_/.test(name))

beforeEach(() => {
  for (const spy of Object.values(logged)) spy.mockReset()
  delete globals[SHARED]
})

afterEach(async () => {
  await turns(10)
  layer?.close()
  layer = undefined
  for (const event of ['SIGTERM', 'exit']) process.removeAllListeners(event)
  delete globals[SHARED]
  for (const name of variables()) delete process.env[name]
})

/** Where the runtime client tells no end, and so the hooks have to. */
const places: Record<string, () => void> = {
  'outside Lambda': () => {},
  'where nothing holds': () => {
    Object.assign(process.env, { AWS_LAMBDA_RUNTIME_API: '127.0.0.1:1', POST_INVOKE_COMPANION: 'off' })
  },
  'beside the layer, under a client that tells nothing': () => {
    const runtimeApi = `127.0.0.1:${process.pid}${++count}`
    layer = startPipeReader(runtimeApi)
    Object.assign(process.env, {
      AWS_LAMBDA_RUNTIME_API: runtimeApi,
      POST_INVOKE_COMPANION: 'layer',
      POST_INVOKE_FOLDER: layer.folder,
    })
  },
}

type Request = middy.Request<any, any, any, any>
type Middleware = { [Hook in 'before' | 'after' | 'onError']?: (request: Request) => unknown }

const handlerOf = (
  handle: (event: any, context: any) => unknown,
  { inner = [], outer = [], ...options }: Options & { inner?: Middleware[]; outer?: Middleware[] } = {},
  plugin: middy.PluginObject = {},
) =>
  middy<any, any>({ timeoutEarlyInMillis: 0, ...plugin })
    .use(outer as middy.MiddlewareObj[])
    .use(postInvoke(options))
    .use(inner as middy.MiddlewareObj[])
    .handler(async (event, context) => handle(event, context))

const fail = (error: unknown) => () => {
  throw error
}

const original = new Error('handler')
const another = new Error('onError')

describe.each(Object.keys(places))("another middleware's onError, %s", place => {
  beforeEach(() => places[place]?.())

  describe.each<[string, Middleware['onError'] & {}, unknown]>([
    ['throws', fail(another), another],
    ['rejects', () => Promise.reject(another), another],
    ['rethrows', ({ error }) => fail(error)(), original],
    ['rethrows later', async ({ error }) => turns(2).then(fail(error)), original],
    ['throws undefined', fail(undefined), undefined],
  ])('%s', (_, onError, thrown) => {
    it('after which tasks run all the same, and know of it', async () => {
      const outcomes: unknown[] = []
      const handler = handlerOf(
        (_event, context) => {
          context.defer(({ outcome }: any) => void outcomes.push(outcome))
          throw original
        },
        { inner: [{ onError }] },
      )
      let caught: unknown = 'nothing'
      await handler({}, lambdaContext('r1')).catch(error => {
        caught = error
      })
      expect(caught).toBe(thrown)
      await until(() => outcomes.length === 1)
      expect(outcomes).toEqual(['error'])
      await turns(10)
      if (layer)
        expect(layer.lines().filter(line => line !== 'watch')).toEqual([
          expect.stringMatching(/^hold 1 \d+$/),
          'settled 1 r1',
        ])
      expect(logged.warn).not.toHaveBeenCalled()
    })

    it('and the next invocation is one of its own, though its context is the same object', async () => {
      const ran: string[] = []
      const context = lambdaContext('same')
      const handler = handlerOf(
        (event, { defer }) => {
          defer(() => void ran.push(event.name))
          if (event.fails) throw original
          return 'answer'
        },
        { inner: [{ onError }] },
      )
      await handler({ name: 'first', fails: true }, context).catch(() => {})
      await until(() => ran.length === 1)
      await turns(10)
      expect(await handler({ name: 'second' }, context)).toBe('answer')
      await until(() => ran.length === 2)
      expect(ran).toEqual(['first', 'second'])
    })

    it('with nothing deferred, nothing is held', async () => {
      const handler = handlerOf(fail(original), { inner: [{ onError }] })
      await handler({}, lambdaContext('r1')).catch(() => {})
      await turns(10)
      if (layer) expect(layer.lines().filter(line => line !== 'watch')).toEqual(['settled 1 r1'])
      expect(logged.error).not.toHaveBeenCalled()
    })
  })
})

describe('the test kit', () => {
  afterEach(reset)

  it.each<[string, Middleware['onError'] & {}]>([
    ['throws', fail(another)],
    ['rethrows', ({ error }) => fail(error)()],
  ])("runs the tasks also where another middleware's onError %s", async (_, onError) => {
    const handler = handlerOf(
      (_event, context) => {
        context.defer(() => {}, { name: 'audit' })
        throw original
      },
      { inner: [{ onError }] },
    )
    const { answered, settled } = send(handler, {})
    await expect(answered).rejects.toThrow()
    expect((await settled).task('audit')).toMatchObject({ status: 'completed', outcome: 'error' })
  })
})

describe.each(Object.keys(places))('earlyResponse is set and then the same hook throws, %s', place => {
  beforeEach(() => places[place]?.())

  const early = (hook: 'before' | 'after'): Middleware => ({
    [hook](request: Request) {
      request.earlyResponse = 'early'
      throw original
    },
  })

  it.each(['before', 'after'] as const)('in %s: the error is not masked', async hook => {
    const ran = jest.fn()
    const deferring: Middleware = { before: ({ context }) => context.defer(ran) }
    const handler = handlerOf(() => 'answer', { inner: [deferring, early(hook)] })
    await expect(handler({}, lambdaContext())).rejects.toBe(original)
    await until(() => ran.mock.calls.length === 1)
  })

  it('while an onError is still running, no task runs, and it can still defer', async () => {
    const order: string[] = []
    const deferring: Middleware = {
      before: ({ context }) => context.defer(({ outcome }: any) => void order.push(`first ${outcome}`)),
      async onError(request) {
        await turns(20)
        order.push('onError')
        request.context.defer(({ outcome }: any) => void order.push(`second ${outcome}`))
        request.response = { statusCode: 500 }
      },
    }
    const handler = handlerOf(() => 'answer', { inner: [deferring, early('after')], order: 'fifo' })
    expect(await handler({}, lambdaContext())).toEqual({ statusCode: 500 })
    await until(() => order.length === 3)
    expect(order).toEqual(['onError', 'first error', 'second error'])
  })

  it('and an onError that returns a response answers with it', async () => {
    const ran = jest.fn()
    const handler = handlerOf((_event, context) => context.defer(ran), {
      inner: [early('after'), { onError: async () => ({ statusCode: 500 }) }],
    })
    expect(await handler({}, lambdaContext())).toEqual({ statusCode: 500 })
    await until(() => ran.mock.calls.length === 1)
  })
})

describe.each(Object.keys(places))('what plugins and middlewares see, %s', place => {
  beforeEach(() => places[place]?.())

  it.each<[string, Middleware[], unknown]>([
    ['the answer', [], 'answer'],
    ['an early return of before', [{ before: () => 'early' }], 'early'],
    ['an early return of after', [{ after: () => 'early' }], 'early'],
  ])('is never a promise of ours: %s', async (_, inner, expected) => {
    const seen: unknown[] = []
    const see = ({ response }: any) => void seen.push(response)
    const handler = handlerOf((_event, context) => context.defer(() => {}) ?? 'answer', { inner }, { requestEnd: see })
    expect(await handler({}, lambdaContext())).toEqual(expected)
    expect(seen).toEqual([expected])
  })

  it('is the response also to a hook that has set earlyResponse and goes on', async () => {
    const seen: unknown[] = []
    const order: string[] = []
    const handler = handlerOf((_event, context) => context.defer(() => void order.push('task')) ?? 'answer', {
      inner: [
        {
          async after(request) {
            request.earlyResponse = 'early'
            seen.push(request.response)
            await turns(10)
            order.push('after')
            request.context.defer(() => void order.push('its own'))
          },
        },
      ],
    })
    expect(await handler({}, lambdaContext())).toBe('early')
    await until(() => order.length === 3)
    expect(seen).toEqual(['answer'])
    expect(order).toEqual(['after', 'its own', 'task'])
  })

  it('is the response as others assign it, read as often as they like', async () => {
    const seen: unknown[] = []
    const handler = handlerOf(
      (_event, context) => {
        context.defer(() => {})
        return 1
      },
      {
        inner: [
          {
            after(request) {
              seen.push(request.response, request.response)
              request.response++
              seen.push(request.response)
            },
          },
        ],
      },
    )
    expect(await handler({}, lambdaContext())).toBe(2)
    expect(seen).toEqual([1, 1, 2])
  })
})

describe('an early return where nothing holds', () => {
  beforeEach(() => places['where nothing holds']?.())

  it.each<[string, Middleware, boolean]>([
    ['before', { before: () => 'early' }, false],
    ['after', { after: () => 'early' }, false],
    ['onError', { onError: () => 'early' }, true],
    ['onError, asynchronously', { onError: async () => 'early' }, true],
  ])('of %s waits for the tasks', async (_, middleware, fails) => {
    const order: string[] = []
    const deferring: Middleware = {
      before: ({ context }) => context.defer(() => turns(5).then(() => void order.push('task'))),
    }
    const handler = handlerOf(() => (fails ? fail(original)() : 'answer'), { inner: [deferring, middleware] })
    expect(await handler({}, lambdaContext())).toBe('early')
    order.push('answered')
    expect(order).toEqual(['task', 'answered'])
  })
})

it('an error that another middleware takes back, where none was thrown, makes no failure', async () => {
  const ran: string[] = []
  const takeBack: Middleware = {
    after: request => {
      request.error = null
    },
  }
  const handler = handlerOf(
    (_event, context) => {
      for (const on of ['success', 'error']) context.defer(() => void ran.push(on), { on })
    },
    { inner: [takeBack] },
  )
  await handler({}, lambdaContext('r1'))
  await until(() => ran.length > 0)
  await turns(10)
  expect(ran).toEqual(['success'])
})

describe('the context', () => {
  it('is as it was: compared in tests of users, copied and logged, it has no defer()', async () => {
    const context = lambdaContext('r1')
    const before = { ...context }
    const handler = handlerOf((_event, given) => {
      assert.deepStrictEqual(given, before)
      expect(Object.keys(given)).not.toContain('defer')
      expect(JSON.stringify(given)).toBe(JSON.stringify(before))
      return typeof given.defer
    })
    expect(await handler({}, context)).toBe('function')
  })

  it('can have a defer of others put on it, and that of the next invocation', async () => {
    const context = lambdaContext('r1')
    const handler = handlerOf((_event, given) => {
      given.defer = 'mine'
      return given.defer
    })
    expect(await handler({}, context)).toBe('mine')
    await turns(10)
    expect(await handler({}, context)).toBe('mine')
  })

  describe.each(Object.keys(places))('that is frozen, %s', place => {
    beforeEach(() => places[place]?.())

    it('gets no defer(), and a warning, but fails nothing; the imported one works', async () => {
      const ran = jest.fn()
      const handler = handlerOf((_event, given) => {
        defer(ran)
        return typeof given.defer
      })
      for (let time = 0; time < 2; time++) {
        expect(await handler({}, Object.freeze(lambdaContext('r1')))).toBe('undefined')
        await until(() => ran.mock.calls.length === time + 1)
        await turns(10)
      }
      expect(logged.warn.mock.calls).toEqual([
        ['middy-post-invoke: WARN_FROZEN_CONTEXT, the context is frozen and gets no defer()'],
      ])
    })
  })

  it('that throws where it is to get a defer() counts as frozen', async () => {
    const hostile = new Proxy(lambdaContext('r1'), { defineProperty: fail(new Error('refused')) })
    expect(await handlerOf(() => 'answer')({}, hostile)).toBe('answer')
    expect(logged.warn).toHaveBeenCalledTimes(1)
  })

  it('whose getRemainingTimeInMillis throws counts as one without a deadline', async () => {
    const remaining: number[] = []
    const handler = handlerOf((_event, given) =>
      given.defer(({ getRemainingTimeInMillis }: any) => void remaining.push(getRemainingTimeInMillis())),
    )
    await handler({}, lambdaContext('r1', fail(new Error('no clock'))))
    await until(() => remaining.length === 1)
    expect(remaining).toEqual([Number.POSITIVE_INFINITY])
  })
})

describe('behind the runtime client of nodejs24.x, played here', () => {
  const STORE_REQUEST_ID = Symbol.for('_AWS_LAMBDA_REQUEST_ID')
  let context: any

  beforeEach(() => {
    Object.assign(process.env, { AWS_LAMBDA_RUNTIME_API: '127.0.0.1:1', POST_INVOKE_COMPANION: 'embedded' })
    globals.awslambda = {
      streamifyResponse() {},
      InvokeStore: {
        run(next: any, fn: () => unknown) {
          context = next
          return fn()
        },
        getRequestId: () => context?.[STORE_REQUEST_ID],
      },
    }
  })
  afterEach(() => {
    delete globals.awslambda
  })

  const run = (requestId: string, fn: () => Promise<unknown>): Promise<unknown> =>
    globals.awslambda.InvokeStore.run({ [STORE_REQUEST_ID]: requestId }, fn)

  it('the request is left as it is, for the client tells the end', async () => {
    let descriptors: unknown[] = []
    const handler = handlerOf(() => 'answer', {
      inner: [
        {
          before: request => {
            descriptors = ['response', 'error'].map(name => Object.getOwnPropertyDescriptor(request, name))
          },
        },
      ],
    })
    await run('r1', () => handler({}, lambdaContext('r1')))
    expect(descriptors).toEqual(Array(2).fill(expect.objectContaining({ value: undefined, writable: true })))
  })

  it("another middleware's onError that throws: the environment is held until the tasks have run", async () => {
    const order: string[] = []
    const handler = handlerOf(
      (_event, { defer }) => {
        defer(({ outcome }: any) => turns(5).then(() => void order.push(outcome)))
        throw original
      },
      { inner: [{ onError: fail(another) }] },
    )
    await run('r1', () => handler({}, lambdaContext('r1'))).catch(error => order.push(error.message))
    expect(order).toEqual(['error', 'onError'])
  })

  it('the tasks of a function that is about to time out are named, for nobody is left to do it later', async () => {
    const end = performance.now() + 400
    const handler = handlerOf(async (_event, { defer }) => {
      defer(() => {}, { name: 'audit' })
      await new Promise(() => {})
    })
    run('r1', () =>
      handler(
        {},
        lambdaContext('r1', () => end - performance.now()),
      ),
    )
    await until(() => logged.error.mock.calls.length === 1)
    expect(logged.error.mock.calls).toEqual([
      ['middy-post-invoke: the function is about to time out in the middle of request r1; unfinished: "audit"'],
    ])
  })

  it.each([-3_600_000, 3_600_000])('a wall clock that jumps by %i ms times nothing out', async jump => {
    const { now } = Date
    const jumped = jest.spyOn(Date, 'now')
    const seen: unknown[] = []
    const handler = handlerOf(async (_event, { defer }) => {
      defer(async ({ signal, getRemainingTimeInMillis }: any) => {
        await turns(2)
        seen.push(signal.aborted, getRemainingTimeInMillis() > 0, getRemainingTimeInMillis() <= 60_000)
      })
      jumped.mockImplementation(() => now() + jump)
    })
    await run('r1', () =>
      handler(
        {},
        lambdaContext('r1', () => 60_000),
      ),
    )
    jumped.mockRestore()
    expect(seen).toEqual([false, true, true])
    expect(logged.error).not.toHaveBeenCalled()
  })

  it('a handler that keeps the context of an invocation that is over is told so', async () => {
    let kept: any
    const handler = handlerOf((_event, given) => {
      kept = given
    })
    await run('r1', () => handler({}, lambdaContext('r1')))
    expect(thrownBy(() => kept.defer(() => {}))).toMatchObject({ code: 'ERR_NO_INVOCATION' })
  })
})
