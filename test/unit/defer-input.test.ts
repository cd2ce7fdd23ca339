// Everything that users can give to defer(): what is taken, and what is refused with which words.
import { beforeAll, describe, expect, it, jest } from '@jest/globals'
import middy from '@middy/core'
import fc from 'fast-check'
import { describe as describeValue, PostInvokeError } from '../../src/errors.ts'
import postInvoke, { type Context, defer } from '../../src/index.ts'
import { createTask } from '../../src/middleware/defer-input.ts'
import { lambdaContext, thrownBy } from './helpers.ts'

/** Both ways to defer, of an invocation that stays open. */
const defers: Record<string, (task: any, options?: any) => void> = {}
beforeAll(async () => {
  await new Promise<void>(ready => {
    middy<any, any>()
      .use(postInvoke())
      .handler(async (_event, context) => {
        defers['context.defer()'] = (context as Context).defer
        const { AsyncLocalStorage } = await import('node:async_hooks')
        const inside = AsyncLocalStorage.snapshot()
        defers['the imported defer()'] = (task, options) => inside(() => defer(task, options))
        ready()
        await new Promise(() => {})
      })({}, lambdaContext())
  })
})

const unreadable = new Proxy(
  {},
  {
    get(_, key) {
      if (key === 'then') return undefined
      throw new Error('unreadable')
    },
  },
)

const refusals: [string, any, any, string][] = [
  ...(
    [
      [undefined, 'undefined'],
      [null, 'null'],
      [42, '42'],
      [Number.NaN, 'NaN'],
      [10n, '10n'],
      [true, 'true'],
      ['mail', "'mail'"],
      ['x'.repeat(200), `'${'x'.repeat(80)}'`],
      [Symbol('mail'), 'Symbol(mail)'],
      [{}, '[Object]'],
      [Object.create(null), '[Object]'],
      [{ constructor: { name: Symbol('mail') } }, '[Symbol(mail)]'],
      [new (Object.defineProperty(class {}, 'name', { value: 'm'.repeat(1_000) }))(), `[${'m'.repeat(80)}]`],
      [10n ** 1_000n, `1${'0'.repeat(79)}`],
      [[() => {}], '[Array]'],
      [new Date(0), '[Date]'],
      [new (class Mail {})(), '[Mail]'],
      // biome-ignore lint/suspicious/noThenProperty: it is none that can be called
      [{ then: 'soon' }, '[Object]'],
      [new Proxy(unreadable, { get: () => undefined }), '[Object]'],
      [unreadable, 'object'],
    ] as const
  ).map<[string, any, any, string]>(([task, described]) => [
    `a task that is ${described.slice(0, 40)}`,
    task,
    undefined,
    `Expected a function or a promise to defer, got ${described}.`,
  ]),
  ...(
    [
      [null, 'null'],
      ['mail', "'mail'"],
      [5_000, '5000'],
      [true, 'true'],
      [[], '[Array]'],
      [() => {}, '[Function (anonymous)]'],
    ] as const
  ).map<[string, any, any, string]>(([options, described]) => [
    `options that are ${described}`,
    () => {},
    options,
    `Expected the options of defer() to be an object, got ${described}.`,
  ]),
  ...['retries', 'Timeout', 'ON', ''].map<[string, any, any, string]>(key => [
    `an option that is called "${key}"`,
    () => {},
    { name: 'mail', [key]: 1 },
    `Expected the options of defer() to be among name, on, timeout, got '${key}'.`,
  ]),
  ...(
    [
      [1, '1'],
      [null, 'null'],
      [Symbol('mail'), 'Symbol(mail)'],
      [() => {}, '[Function (anonymous)]'],
    ] as const
  ).map<[string, any, any, string]>(([value, described]) => [
    `a name that is ${described}`,
    () => {},
    { name: value },
    `Expected the option name of defer() to be a string, got ${described}.`,
  ]),
  ...(
    [
      ['failure', "'failure'"],
      ['Success', "'Success'"],
      ['', "''"],
      [null, 'null'],
      [['success'], '[Array]'],
      [true, 'true'],
    ] as const
  ).map<[string, any, any, string]>(([value, described]) => [
    `an \`on\` that is ${described}`,
    () => {},
    { on: value },
    `Expected the option on of defer() to be 'success' or 'error' or 'always', got ${described}.`,
  ]),
  ...(
    [
      [0, '0'],
      [-1, '-1'],
      [1.5, '1.5'],
      [Number.NaN, 'NaN'],
      [Number.POSITIVE_INFINITY, 'Infinity'],
      ['1000', "'1000'"],
      [null, 'null'],
      [1_000n, '1000n'],
      [{}, '[Object]'],
    ] as const
  ).map<[string, any, any, string]>(([value, described]) => [
    `a timeout that is ${described}`,
    () => {},
    { timeout: value },
    `Expected the option timeout of defer() to be a whole number from 1 up, got ${described}.`,
  ]),
  ...(
    [
      ['[GeneratorFunction: mail]', function* mail() {}],
      ['[AsyncGeneratorFunction: mail]', async function* mail() {}],
      ['[GeneratorFunction: mail]', { *mail() {} }.mail],
    ] as const
  ).map<[string, any, any, string]>(([described, task]) => [
    described,
    task,
    undefined,
    `Expected a function or a promise to defer, got ${described}.`,
  ]),
  ...(['success', 'error'] as const).map<[string, any, any, string]>(on => [
    `a promise for the outcome ${on}`,
    Promise.resolve(),
    { on },
    `Expected a function for \`on: '${on}'\`, got [Promise].`,
  ]),
]

describe.each(['context.defer()', 'the imported defer()'])('%s refuses', way => {
  it.each(refusals)('%s', (_, task, options, message) => {
    const error = thrownBy(() => defers[way]?.(task, options)) as PostInvokeError
    expect(error).toBeInstanceOf(PostInvokeError)
    expect(error).toBeInstanceOf(Error)
    expect(error.message).toBe(message)
    expect(error).toMatchObject({
      name: 'PostInvokeError',
      code: 'ERR_INVALID_TASK',
      cause: { package: 'middy-post-invoke' },
    })
  })
})

describe('defer() takes', () => {
  it.each<[string, any, any, Record<string, unknown>]>([
    ['a function', function mail() {}, undefined, { label: 'mail', on: 'always', timeout: undefined }],
    ['a function without a name', (() => () => {})(), undefined, { label: 'task 1', on: 'always' }],
    ['an async function', async function mail() {}, undefined, { label: 'mail' }],
    ['a class, which fails when it runs', class Mail {}, undefined, { label: 'Mail' }],
    ['a promise', Promise.resolve(), undefined, { label: 'task 1', on: 'always' }],
    ['a promise for every outcome', Promise.resolve(), { on: 'always' }, { on: 'always' }],
    // biome-ignore lint/suspicious/noThenProperty: a promise of another library
    ['a thenable', { then() {} }, { name: 'foreign' }, { label: 'foreign' }],
    ['no options', () => {}, undefined, { on: 'always', timeout: undefined }],
    ['empty options', () => {}, {}, { on: 'always', timeout: undefined }],
    [
      'explicit undefined',
      function mail() {},
      { name: undefined, on: undefined, timeout: undefined },
      { label: 'mail', on: 'always', timeout: undefined },
    ],
    ['all options', () => {}, { name: 'a', on: 'error', timeout: 1 }, { label: 'a', on: 'error', timeout: 1 }],
    ['options without a prototype', () => {}, Object.assign(Object.create(null), { name: 'a' }), { label: 'a' }],
    ['frozen options', () => {}, Object.freeze({ on: 'success' }), { on: 'success' }],
    ['an empty name, which is none', () => {}, { name: '' }, { label: 'task 1' }],
  ])('%s', (_, task, options, expected) => {
    expect(createTask(task, options, 1, false)).toMatchObject({ run: expect.any(Function), ...expected })
  })

  it('no later change of the options', () => {
    const options: { name: string; timeout?: number } = { name: 'a' }
    const valid = createTask(() => {}, options, 1, false)
    options.name = 'b'
    options.timeout = 5
    expect(valid).toMatchObject({ label: 'a', timeout: undefined })
  })
})

describe('a name', () => {
  const nameOf = (name: string) => createTask(() => {}, { name }, 1, false).label

  it('is cut before anything is done with it', () => {
    const long = 'x'.repeat(200_000)
    expect(nameOf(long)).toBe('x'.repeat(100))
    expect(
      createTask(
        Object.defineProperty(() => {}, 'name', { value: long }),
        undefined,
        1,
        false,
      ).label,
    ).toBe('x'.repeat(100))
    // Text that counts what is asked of it: nothing but its beginning is.
    const test = jest.spyOn(RegExp.prototype, 'test')
    nameOf(long)
    expect(Math.max(...test.mock.calls.map(([text]) => String(text).length))).toBe(100)
    test.mockRestore()
  })

  it.each([
    ['a line feed', '\n'],
    ['a carriage return', '\r'],
    ['nothing', '\0'],
    ['an escape', '\x1b'],
    ['delete', '\x7f'],
    ['a next line', '\x85'],
    ['a line separator', '\u2028'],
    ['a paragraph separator', '\u2029'],
    ['a mark from right to left', '\u200f'],
    ['an Arabic letter mark', '\u061c'],
    ['an embedding from right to left', '\u202b'],
    ['an override of the direction', '\u202e'],
    ['an isolate', '\u2066'],
    ['the end of an isolate', '\u2069'],
  ])('is without what breaks a line or turns its direction: %s', (_, character) => {
    expect(nameOf(`ma${character}il${character}`)).toBe('ma\ufffdil\ufffd')
    expect(nameOf(character)).toBe('\ufffd')
  })

  it.each(['Grüße an 東京 🚀', 'a "quoted" \\ name', 'مهمة'])('keeps what can be read: %s', name => {
    expect(nameOf(name)).toBe(name)
  })
})

describe('what is given', () => {
  it('is described in a short line, whatever it is, and never throws', () => {
    fc.assert(
      fc.property(fc.anything({ withBigInt: true, withDate: true, withMap: true, withNullPrototype: true }), value => {
        const text = describeValue(value)
        expect(typeof text).toBe('string')
        expect(text).not.toContain('\n')
        expect(text.length).toBeLessThan(600)
      }),
    )
  })

  it('never makes defer() throw anything but a PostInvokeError', () => {
    fc.assert(
      fc.property(fc.anything(), fc.anything(), (task, options) => {
        const error = thrownBy(() => defers['context.defer()']?.(task, options))
        expect(error).toBeInstanceOf(PostInvokeError) // fc.anything makes no function and no thenable
      }),
    )
  })
})
