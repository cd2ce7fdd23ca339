// `waitUntil` as @vercel/functions and Next look for it, outside Lambda.
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import middy from '@middy/core'
import { getDeadline, waitUntil } from '@vercel/functions'
import { withPostInvoke } from '../../src/handler.ts'
import postInvoke, { waitUntil as exported, type Options } from '../../src/index.ts'
import { version } from '../../src/version.ts'
import { lambdaContext, turns, until } from './helpers.ts'

const VERCEL = Symbol.for('@vercel/request-context')
const NEXT = Symbol.for('@next/request-context')
const globals = globalThis as { [symbol: symbol]: any }

const error = jest.spyOn(console, 'error')

beforeEach(() => {
  error.mockReset()
  delete globals[VERCEL]
  delete globals[NEXT]
})
afterEach(() => turns(10))

const handlerWith = (handle: (event: any) => unknown, options?: Options) =>
  middy<any, any>()
    .use(postInvoke({ waitUntil: true, ...options }))
    .handler(async event => handle(event))

const invoke = (handler: any, id = 'r1', event: unknown = {}) => handler(event, lambdaContext(id))

describe.each([
  ['the middleware', handlerWith],
  [
    'withPostInvoke',
    (handle: (event: any) => unknown, options?: Options) => withPostInvoke(handle, { waitUntil: true, ...options }),
  ],
])('behind %s', (_, wrap) => {
  it('waitUntil of @vercel/functions defers its promise, which is logged where it rejects', async () => {
    const handler = wrap(() => {
      waitUntil(Promise.resolve())
      waitUntil(Promise.reject(new Error('rejected')))
      return 'answer'
    })
    expect(await invoke(handler, 'r7')).toBe('answer')
    await until(() => error.mock.calls.length === 1)
    expect(error.mock.calls).toEqual([
      ['middy-post-invoke: task "waitUntil" of request r7 failed:', new Error('rejected')],
    ])
  })

  it.each([VERCEL, NEXT])(
    '%p has the invocation while there is one, and nothing else of that platform',
    async symbol => {
      const seen: unknown[] = []
      const handler = wrap(() => seen.push(globals[symbol].get()))
      expect(globals[symbol].get()).toBeUndefined()
      await invoke(handler)
      expect(seen).toEqual([{ waitUntil: expect.any(Function), deadline: expect.any(Number) }])
      expect(getDeadline()).toBeUndefined()
    },
  )

  it("getDeadline() of @vercel/functions is the function's deadline, and undefined where there is none", async () => {
    const handler = wrap(() => getDeadline())
    const before = Date.now()
    const deadline = await handler(
      {},
      lambdaContext('r9', () => 7_000),
    )
    expect(Number(deadline)).toBeGreaterThanOrEqual(before + 7_000 - 1) // two clocks, one of whole milliseconds
    expect(Number(deadline)).toBeLessThanOrEqual(Date.now() + 7_000)
    expect(await handler({}, lambdaContext('r10'))).toBeUndefined()
  })

  it('each promise belongs to the invocation in which it was given', async () => {
    const failed: string[] = []
    const bothIn = Promise.withResolvers<void>()
    let began = 0
    const handler = wrap(
      async ({ name }) => {
        if (++began === 2) bothIn.resolve()
        await bothIn.promise
        waitUntil(Promise.reject(new Error(name)))
      },
      {
        onTaskError: (reason, { awsRequestId }) => void failed.push(`${awsRequestId} ${(reason as Error).message}`),
      },
    )
    await Promise.all(['a', 'b'].map(name => invoke(handler, `request of ${name}`, { name })))
    await until(() => failed.length === 2)
    expect(failed.sort()).toEqual(['request of a a', 'request of b b'])
  })

  it.each([false, undefined])('is not there where the option is %p', async waitUntil => {
    const handler = wrap(() => [VERCEL in globals, NEXT in globals], { waitUntil })
    expect(await invoke(handler)).toEqual([false, false])
  })

  it('leaves a request context that is there, and gives way to one that comes later', async () => {
    const given: unknown[] = []
    const theirs = { get: () => ({ waitUntil: (promise: unknown) => void given.push(promise) }) }
    globals[VERCEL] = theirs
    const handler = wrap(() => waitUntil(promise))
    const promise = Promise.resolve()
    expect(globals[VERCEL]).toBe(theirs)
    await invoke(handler)
    expect(given).toEqual([promise])
    expect(globals[NEXT]).not.toBe(theirs)
    globals[NEXT] = theirs
    wrap(() => {})
    expect(globals[NEXT]).toBe(theirs)
  })

  it('says so where a promise comes after its invocation has settled, and throws nothing', async () => {
    let late: (() => void) | undefined
    const handler = wrap(() => {
      const { waitUntil } = globals[VERCEL].get()
      late = () => waitUntil(Promise.resolve())
    })
    await invoke(handler)
    await turns(10)
    late?.()
    expect(error.mock.calls).toEqual([
      [
        'middy-post-invoke: a promise given to waitUntil() is not waited for:',
        expect.objectContaining({ code: 'ERR_NO_INVOCATION' }),
      ],
    ])
  })
})

describe('the exported waitUntil()', () => {
  it('defers its promise in the invocation in which it is called, without the globals', async () => {
    const handler = middy<any, any>()
      .use(postInvoke())
      .handler(async () => {
        exported(Promise.reject(new Error('rejected')))
        return [VERCEL in globals, NEXT in globals]
      })
    expect(await invoke(handler, 'r8')).toEqual([false, false])
    await until(() => error.mock.calls.length === 1)
    expect(error.mock.calls).toEqual([
      ['middy-post-invoke: task "waitUntil" of request r8 failed:', new Error('rejected')],
    ])
  })

  it('takes what is no promise, and never throws', async () => {
    let late: (() => void) | undefined
    const handler = middy<any, any>()
      .use(postInvoke())
      .handler(async () => {
        for (const value of [undefined, null, 42, 'text', {}]) exported(value as any)
        late = () => exported(Promise.resolve())
      })
    await invoke(handler)
    await turns(10)
    expect(error).not.toHaveBeenCalled()
    expect(() => late?.()).not.toThrow()
  })

  it('outside of an invocation warns, once, and leaves the promise alone', () => {
    delete globals[Symbol.for(`middy-post-invoke/${version}`)]
    const warn = jest.spyOn(console, 'warn').mockImplementation(() => {})
    for (let time = 0; time < 2; time++) exported(Promise.resolve())
    expect(warn.mock.calls).toEqual([
      ['middy-post-invoke: WARN_WAIT_UNTIL, waitUntil() was called outside of an invocation'],
    ])
    warn.mockRestore()
  })
})
