// Everything that users can give to onShutdown(), to resource() and to the option `shutdown`: what is taken, and what is
// refused with which words.
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import { PostInvokeError } from '../../src/errors.ts'
import postInvoke, { onShutdown, resource } from '../../src/index.ts'
import { functionProcess } from '../../src/middleware/process.ts'
import { version } from '../../src/version.ts'
import { thrownBy } from './helpers.ts'

const SHARED = Symbol.for(`middy-post-invoke/${version}`)
const sigterm = jest.spyOn(process, 'prependOnceListener')
beforeEach(() => {
  delete (globalThis as any)[SHARED]
  sigterm.mockReset().mockReturnValue(process)
})
afterEach(() => {
  delete process.env.POST_INVOKE_COMPANION
})

const expectRefusal = (error: unknown, message: string) => {
  expect(error).toBeInstanceOf(PostInvokeError)
  expect((error as PostInvokeError).message).toBe(message)
  expect(error).toMatchObject({
    name: 'PostInvokeError',
    code: 'ERR_INVALID_HOOK',
    cause: { package: 'middy-post-invoke' },
  })
  expect(sigterm).not.toHaveBeenCalled() // nothing is listened for in vain
}

/** Values that are neither a function nor something that disposes of itself. */
const strangers: [unknown, string][] = [
  [undefined, 'undefined'],
  [null, 'null'],
  [42, '42'],
  [true, 'true'],
  ['close', "'close'"],
  [Symbol('close'), 'Symbol(close)'],
  [{}, '[Object]'],
  [{ close() {} }, '[Object]'],
  [Object.create(null), '[Object]'],
  [[() => {}], '[Array]'],
  [Promise.resolve(), '[Promise]'],
  [{ [Symbol.dispose]: 'soon' }, '[Object]'],
  [new (class Pool {})(), '[Pool]'],
]

describe('onShutdown() refuses', () => {
  it.each(strangers)('the hook %p', (hook, described) => {
    expectRefusal(
      thrownBy(() => onShutdown(hook as any)),
      `Expected a function or a disposable to run at shutdown, got ${described}.`,
    )
  })
})

describe.each<[string, (options: any) => unknown]>([
  ['onShutdown()', options => onShutdown(() => {}, options)],
  [
    'resource()',
    options =>
      resource(
        () => 1,
        () => {},
        options,
      ),
  ],
])('%s refuses', (call, give) => {
  it.each<[unknown, string]>([
    [null, 'null'],
    ['pool', "'pool'"],
    [100, '100'],
    [[], '[Array]'],
    [() => {}, '[Function (anonymous)]'],
  ])('the options %p', (options, described) => {
    expectRefusal(
      thrownBy(() => give(options)),
      `Expected the options of ${call} to be an object, got ${described}.`,
    )
  })

  it.each(['timout', 'Name', 'signal', ''])('the option "%s"', key => {
    expectRefusal(
      thrownBy(() => give({ name: 'pool', [key]: 1 })),
      `Expected the options of ${call} to be among name, timeout, got '${key}'.`,
    )
  })

  it.each<[unknown, string]>([
    [1, '1'],
    [null, 'null'],
    [Symbol('pool'), 'Symbol(pool)'],
    [() => {}, '[Function (anonymous)]'],
  ])('the name %p', (name, described) => {
    expectRefusal(
      thrownBy(() => give({ name })),
      `Expected the option name of ${call} to be a string, got ${described}.`,
    )
  })

  it.each<[unknown, string]>([
    [0, '0'],
    [-1, '-1'],
    [1.5, '1.5'],
    [Number.NaN, 'NaN'],
    [Number.POSITIVE_INFINITY, 'Infinity'],
    ['100', "'100'"],
    [null, 'null'],
    [100n, '100n'],
    [{}, '[Object]'],
  ])('the timeout %p', (timeout, described) => {
    expectRefusal(
      thrownBy(() => give({ timeout })),
      `Expected the option timeout of ${call} to be a whole number from 1 up, got ${described}.`,
    )
  })
})

describe('resource() refuses', () => {
  const notFunctions = strangers.filter(([value]) => value !== undefined)

  it.each([[undefined, 'undefined'] as [unknown, string], ...notFunctions])('to make it by %p', (create, described) => {
    expectRefusal(
      thrownBy(() => resource(create as any, () => {})),
      `Expected a function that makes the resource, got ${described}.`,
    )
  })

  it.each(notFunctions)('to dispose of it by %p', (dispose, described) => {
    expectRefusal(
      thrownBy(() => resource(() => 1, dispose as any)),
      `Expected a function that disposes of the resource, got ${described}.`,
    )
  })

  it.each(strangers.filter(([value]) => !(value instanceof Promise)))(
    'at its first use, and again at the next, to keep %p, of which nothing disposes',
    async (made, described) => {
      const message = `Expected a disposable, or a function that disposes of it, got ${described}.`
      const atOnce = resource(() => made)
      const later = resource(async () => made)
      sigterm.mockClear() // it has been listened for since they were declared
      for (let use = 0; use < 2; use++) {
        expectRefusal(
          thrownBy(() => atOnce()),
          message,
        )
        expectRefusal(await later().catch(error => error), message)
      }
    },
  )
})

describe('the option `shutdown` refuses', () => {
  it.each([0, 1, 'true', '', null, {}, [], () => {}])('%p', shutdown => {
    const error = thrownBy(() => postInvoke({ shutdown } as any)) as Error
    expect(error).toBeInstanceOf(TypeError)
    expect(error.message).toMatch(/^Expected the option shutdown of postInvoke\(\) to be true or false, got /)
    expect(error).toMatchObject({ code: 'ERR_INVALID_OPTION', cause: { package: 'middy-post-invoke' } })
    expect(sigterm).not.toHaveBeenCalled()
  })
})

describe('a wrong variable', () => {
  it.each<[string, () => unknown]>([
    ['onShutdown()', () => onShutdown(() => {})],
    ['resource()', () => resource(() => ({ [Symbol.dispose]() {} }))],
  ])('is an error of %s too, which may come first', (_, call) => {
    process.env.POST_INVOKE_COMPANION = 'layers'
    expect(thrownBy(call)).toMatchObject({ code: 'ERR_INVALID_VARIABLE' })
  })
})

describe('hooks that are right', () => {
  class Pool {
    async [Symbol.asyncDispose]() {
      throw new Error('failed')
    }
  }
  const named = (name: unknown) => ({
    name,
    [Symbol.dispose]() {
      throw new Error('failed')
    },
  })

  it.each<[string, unknown, unknown, string]>([
    ['a function by its name', closePool, undefined, 'closePool'],
    [
      'an async function without a name',
      (
        () => async () =>
          Promise.reject(new Error('failed'))
      )(),
      {},
      'hook 1',
    ],
    ['an object by its class', new Pool(), undefined, 'Pool'],
    ['an object by its own name', named('orders'), undefined, 'orders'],
    ['an object whose name is none', named({ toString: null }), undefined, 'hook 1'],
    ['an object with an empty name', named(''), undefined, 'hook 1'],
    ['an object without a prototype', Object.assign(Object.create(null), named(null)), undefined, 'hook 1'],
    ['anything by the option', new Pool(), { name: 'mine' }, 'mine'],
    ['anything, where options are explicitly undefined', new Pool(), { name: undefined, timeout: undefined }, 'Pool'],
  ])('are named in the log: %s', async (_, hook, options, name) => {
    const error = jest.spyOn(console, 'error').mockImplementation(() => {})
    // Those of other tests have their names, too: a process has one list.
    await functionProcess().drain()
    error.mockClear()
    const add = onShutdown as (hook: unknown, options: unknown) => () => void
    add(hook, options)
    await functionProcess().drain()
    expect(error.mock.calls).toEqual([[`middy-post-invoke: shutdown hook "${name}" failed:`, new Error('failed')]])
    error.mockRestore()
  })
})

function closePool() {
  throw new Error('failed')
}

describe('a resource', () => {
  it('is made once, at its first use, whatever it is', async () => {
    for (const [made] of strangers) {
      const create = jest.fn(() => made)
      const use = resource(create, () => {})
      expect(create).not.toHaveBeenCalled()
      const first = use()
      expect(use()).toBe(first)
      expect(await first).toBe(await made)
      expect(create).toHaveBeenCalledTimes(1)
    }
  })

  it('that could not be made is tried again', async () => {
    let attempts = 0
    const use = resource(
      async () => {
        if (++attempts === 1) throw new Error('refused')
        return attempts
      },
      () => {},
    )
    await expect(use()).rejects.toThrow('refused')
    expect(await use()).toBe(2)
    expect(await use()).toBe(2)
  })
})
