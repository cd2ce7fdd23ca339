// Handlers without Middy, outside Lambda: nothing holds, so tasks run right after the handler's answer.
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import {
  type Context,
  defer,
  type ExecutionContext,
  PostInvokeError,
  withExecutionContext,
  withPostInvoke,
} from '../../src/handler.ts'
import { version } from '../../src/version.ts'
import { lambdaContext, thrownBy, turns, until } from './helpers.ts'

const error = jest.spyOn(console, 'error')

beforeEach(() => {
  error.mockReset()
})
afterEach(() => turns(10))

describe('withPostInvoke', () => {
  it('runs tasks after the answer, and gives the handler what it was given', async () => {
    const order: string[] = []
    const context = lambdaContext('r1')
    const handler = withPostInvoke(async (event: { user: string }, given) => {
      expect(given).toBe(context)
      given.defer(({ awsRequestId, outcome }) => void order.push(`${awsRequestId} ${outcome}`))
      defer(() => void order.push('imported'))
      return event.user
    })
    expect(await handler({ user: 'ann' }, context)).toBe('ann')
    expect(order).toEqual([])
    await until(() => order.length === 2)
    expect(order).toEqual(['imported', 'r1 success'])
  })

  it.each([
    ['rejects', async () => Promise.reject(new Error('handler'))],
    [
      'throws',
      () => {
        throw new Error('handler')
      },
    ],
  ])('a handler that %s', async (_, fail) => {
    const outcomes: unknown[] = []
    const handler = withPostInvoke((_event: unknown, context) => {
      context.defer(task => void outcomes.push([task.outcome, task.error]))
      context.defer(() => void outcomes.push('on success'), { on: 'success' })
      return fail()
    })
    await expect(handler({}, lambdaContext())).rejects.toThrow('handler')
    await until(() => outcomes.length === 1)
    expect(outcomes).toEqual([['error', new Error('handler')]])
  })

  it('a handler that throws undefined has failed, too', async () => {
    const outcomes: unknown[] = []
    const handler = withPostInvoke(async (_event: unknown, context) => {
      context.defer(({ outcome }) => void outcomes.push(outcome))
      throw undefined
    })
    await expect(handler({}, lambdaContext())).rejects.toBeUndefined()
    await until(() => outcomes.length === 1)
    expect(outcomes).toEqual(['error'])
  })

  it('takes a context that is missing for an empty one, as a test would leave it', async () => {
    const ran = jest.fn()
    const handler = withPostInvoke(async (_event: unknown, context) => context.defer(ran)) as any
    await handler({})
    await until(() => ran.mock.calls.length === 1)
  })

  it('keeps what stands on the handler, as a mark of streaming does, and has no parameters to count', () => {
    const mark = Symbol('mark')
    const handler = Object.assign(async (_event: unknown, _stream: any, _context: any) => {}, { [mark]: 'a', log: 1 })
    const wrapped = withPostInvoke(handler)
    expect({ ...wrapped }).toEqual({ [mark]: 'a', log: 1 })
    expect(wrapped).toHaveLength(0)
    expect(wrapped).not.toBe(handler)
  })

  it('finds the context of a streamed handler behind its stream', async () => {
    const ran = jest.fn()
    const stream = { write() {} } as any
    const handler = withPostInvoke(async (event: unknown, given: awslambda.HttpResponseStream, context: Context) => {
      expect([event, given]).toEqual(['event', stream])
      context.defer(ran)
    })
    await handler('event', stream, lambdaContext())
    await until(() => ran.mock.calls.length === 1)
  })

  it.each([undefined, null, 42, 'index.handler', {}])('refuses %p', given => {
    expect(thrownBy(() => withPostInvoke(given as any))).toMatchObject({
      code: 'ERR_INVALID_HANDLER',
      message: expect.stringMatching(/^Expected a handler to wrap, got /),
    })
  })

  it('refuses a handler that takes a callback, and one with a callback that returns a promise is fine', async () => {
    const calling: any = withPostInvoke((_event: unknown, _context: unknown, _callback: unknown) => {})
    await expect(calling({}, lambdaContext(), () => {})).rejects.toThrow(PostInvokeError)
    await expect(calling({}, lambdaContext(), () => {})).rejects.toMatchObject({ code: 'ERR_INVALID_HANDLER' })
    const both: any = withPostInvoke(async (_event: unknown, _context: unknown, _callback: unknown) => 'answer')
    expect(await both({}, lambdaContext(), () => {})).toBe('answer')
  })

  it('refuses wrong options', () => {
    expect(thrownBy(() => withPostInvoke(async () => {}, { order: 'random' } as any))).toBeInstanceOf(TypeError)
  })
})

describe('withPostInvoke, where nothing holds the environment', () => {
  const SHARED = Symbol.for(`middy-post-invoke/${version}`)
  beforeEach(() => {
    delete (globalThis as any)[SHARED]
    Object.assign(process.env, { AWS_LAMBDA_RUNTIME_API: '127.0.0.1:1', POST_INVOKE_COMPANION: 'off' })
  })
  afterEach(() => {
    delete (globalThis as any)[SHARED]
    delete process.env.AWS_LAMBDA_RUNTIME_API
    delete process.env.POST_INVOKE_COMPANION
    delete process.env.POST_INVOKE_PID
  })

  it.each([
    ['await', ['task', 'answered']],
    ['detach', ['answered', 'task']],
  ] as const)('withoutCompanion %s', async (withoutCompanion, expected) => {
    const order: string[] = []
    const handler = withPostInvoke(
      async (_event: unknown, context) => context.defer(() => turns(3).then(() => void order.push('task'))),
      { withoutCompanion },
    )
    await handler({}, lambdaContext()).finally(() => order.push('answered'))
    await until(() => order.length === 2)
    expect(order).toEqual(expected)
  })

  it('withoutCompanion throw', async () => {
    const handle = jest.fn(async () => {})
    const handler = withPostInvoke(handle, { withoutCompanion: 'throw' })
    await expect(handler({}, lambdaContext())).rejects.toMatchObject({ code: 'ERR_NO_COMPANION' })
    expect(handle).not.toHaveBeenCalled()
  })
})

describe('withExecutionContext', () => {
  type Given = [request: string, env?: object, context?: ExecutionContext]
  const app = {
    name: 'app',
    fetch: (...given: Given) => given,
  }

  it('gives none outside an invocation, and leaves one that is there', () => {
    const wrapped = withExecutionContext(app)
    expect(wrapped.fetch('request', { env: 1 })).toEqual(['request', { env: 1 }, undefined])
    const own = { waitUntil() {}, passThroughOnException() {}, props: 1 }
    expect(wrapped.fetch('request', {}, own)[2]).toBe(own)
    expect(wrapped.name).toBe('app')
    const request = {}
    withExecutionContext({ fetch: (...args: unknown[]) => args }).fetch(request)
    expect(request).toEqual({})
  })

  it('defers what waitUntil is given, by that name', async () => {
    const names: string[] = []
    const handler = withPostInvoke(
      async () => {
        const [, , context] = withExecutionContext(app).fetch('request')
        const { waitUntil } = context as ExecutionContext
        waitUntil(Promise.reject(new Error('rejected')))
        waitUntil(42 as any)
        context?.passThroughOnException()
      },
      { onTaskError: (_error, { name }) => void names.push(name) },
    )
    await handler({}, lambdaContext('r1'))
    await until(() => names.length === 1)
    expect(names).toEqual(['waitUntil'])
    expect(error.mock.calls).toEqual([
      ['middy-post-invoke: task "waitUntil" of request r1 failed:', new Error('rejected')],
    ])
  })

  it('sets waitUntil of a request, where that has none and can have one', async () => {
    const names: string[] = []
    const seen: unknown[] = []
    const fetchApp = { fetch: (request: any) => void seen.push(request.waitUntil) }
    const theirs = () => {}
    const handler = withPostInvoke(
      async () => {
        const request = new Request('http://localhost')
        withExecutionContext(fetchApp).fetch(request)
        for (const other of [{ waitUntil: theirs }, Object.freeze({})]) withExecutionContext(fetchApp).fetch(other)
        ;(request as any).waitUntil(Promise.reject(new Error('rejected')))
      },
      { onTaskError: (_error, { name }) => void names.push(name) },
    )
    await handler({}, lambdaContext('r1'))
    await until(() => names.length === 1)
    expect(names).toEqual(['waitUntil'])
    expect(seen).toEqual([expect.any(Function), theirs, undefined])
  })

  it('gives its request the waitUntil of a context that is there', () => {
    const given: unknown[] = []
    const context = {
      given,
      waitUntil(promise: unknown) {
        this.given.push(promise)
      },
    }
    const request: any = {}
    const fetchApp = { fetch: (...args: unknown[]) => args }
    expect(withExecutionContext(fetchApp).fetch(request, {}, context)[2]).toBe(context)
    request.waitUntil('promise')
    expect(given).toEqual(['promise'])
    expect({ ...withExecutionContext(fetchApp) }).toHaveProperty('fetch') // srvx copies
  })

  it('throws nothing where it is used too late, but says so', async () => {
    let context: ExecutionContext | undefined
    const handler = withPostInvoke(async () => {
      ;[, , context] = withExecutionContext(app).fetch('request')
    })
    await handler({}, lambdaContext('r1'))
    await turns(10)
    context?.waitUntil(Promise.resolve())
    expect(error.mock.calls).toEqual([
      [
        'middy-post-invoke: a promise given to waitUntil() is not waited for:',
        expect.objectContaining({ code: 'ERR_NO_INVOCATION' }),
      ],
    ])
  })
})
