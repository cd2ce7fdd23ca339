// Everything that users can get wrong before the first invocation: options of the middleware, and variables.
import { describe, expect, it } from '@jest/globals'
import { describe as describeValue, PostInvokeError } from '../../src/errors.ts'
import postInvoke, { postInvokeValidateOptions } from '../../src/index.ts'
import { readCompanionMode, readLogLevel, readSocketAddress } from '../../src/variables.ts'
import { thrownBy } from './helpers.ts'

const dimensionsOf = (count: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, index) => [`name ${index}`, 'value']))

describe('options that are right', () => {
  it.each<[string, any]>([
    ['none', undefined],
    ['an empty object', {}],
    ['all', { order: 'fifo', concurrency: 8, taskTimeout: 1, deadlineMargin: 100, withoutCompanion: 'throw' }],
    ['those of a drain', { onDeadline: 'carry', maxCarried: 1, shutdown: false }],
    ['metrics', { metrics: true }],
    ['no metrics', { metrics: false }],
    ['metrics of a namespace', { metrics: { namespace: 'shop' } }],
    ['metrics of many dimensions', { metrics: { dimensions: dimensionsOf(30) } }],
    [
      'the longest names',
      { metrics: { namespace: 'x'.repeat(255), dimensions: { ['x'.repeat(250)]: 'x'.repeat(1_024) } } },
    ],
    ['the console as logger', { logger: console }],
    ['a logger', { logger: { debug: () => {}, warn: () => {}, error: () => {} } }],
    ['a function', { onTaskError: () => {} }],
    ['an async function', { onTaskError: async () => {} }],
    ['explicit undefined', { order: undefined, concurrency: undefined, onTaskError: undefined }],
    ['an object without a prototype', Object.assign(Object.create(null), { order: 'lifo' })],
  ])('%s', (_, options) => {
    expect(thrownBy(() => postInvokeValidateOptions(options))).toBeUndefined()
    expect(postInvoke(options)).toEqual({
      before: expect.any(Function),
      after: expect.any(Function),
      onError: expect.any(Function),
    })
  })
})

describe('options that are wrong', () => {
  const ORDER = 'Option \'order\' must be one of ["lifo","fifo"]'
  const WITHOUT = 'Option \'withoutCompanion\' must be one of ["await","detach","throw"]'
  const given = (described: string) => `Options must be an object, got ${described}`

  it.each<[any, string]>([
    [{ order: 'random' }, ORDER],
    [{ order: 'LIFO' }, ORDER],
    [{ order: '' }, ORDER],
    [{ order: 1 }, "Option 'order' must be string"],
    [{ order: null }, "Option 'order' must be string"],
    [{ order: ['lifo'] }, "Option 'order' must be string"],
    ...(['concurrency', 'taskTimeout'] as const).flatMap<[any, string]>(name => [
      [{ [name]: 0 }, `Option '${name}' must be >= 1`],
      [{ [name]: -1 }, `Option '${name}' must be >= 1`],
      ...[1.5, Number.NaN, Number.POSITIVE_INFINITY, '1', null, true, [], {}, 1n].map<[any, string]>(value => [
        { [name]: value },
        `Option '${name}' must be integer`,
      ]),
    ]),
    [{ deadlineMargin: 0 }, "Option 'deadlineMargin' must be >= 100"],
    [{ deadlineMargin: 99 }, "Option 'deadlineMargin' must be >= 100"],
    [{ deadlineMargin: 250.5 }, "Option 'deadlineMargin' must be integer"],
    [{ deadlineMargin: '250' }, "Option 'deadlineMargin' must be integer"],
    [{ deadlineMargin: null }, "Option 'deadlineMargin' must be integer"],
    ...['log', 1, null, {}, []].map<[any, string]>(value => [
      { onTaskError: value },
      "Option 'onTaskError' must be instanceof Function",
    ]),
    [{ onDeadline: 'keep' }, 'Option \'onDeadline\' must be one of ["carry","drop"]'],
    [{ maxCarried: 0 }, "Option 'maxCarried' must be >= 1"],
    ...[1, 0, 'true', null, {}].map<[any, string]>(value => [{ shutdown: value }, "Option 'shutdown' must be boolean"]),
    ...[true, 'console', () => {}, null, 0, {}, { debug() {}, warn() {}, error: 'a text' }].map<[any, string]>(
      value => [{ logger: value }, "Option 'logger' must be a logger with the methods debug, warn and error"],
    ),
    [{ waitUntil: 'no' }, "Option 'waitUntil' must be boolean"],
    ...[
      1,
      'shop',
      null,
      [],
      () => {},
      { name: 'shop' },
      { namespace: 1 },
      { namespace: '' },
      { namespace: ':shop' },
      { namespace: 'x'.repeat(256) },
      { dimensions: null },
      { dimensions: 'service' },
      { dimensions: ['service'] },
      { dimensions: {} },
      { dimensions: { service: 1 } },
      { dimensions: { service: '' } },
      { dimensions: { '': 'orders' } },
      { dimensions: { ['x'.repeat(251)]: 'orders' } },
      { dimensions: { service: 'x'.repeat(1_025) } },
      { dimensions: dimensionsOf(31) },
    ].map<[any, string]>(value => [
      { metrics: value },
      "Option 'metrics' must be true, or { namespace?: text, dimensions?: { name: text } }, as CloudWatch takes them",
    ]),
    [{ withoutCompanion: 'ignore' }, WITHOUT],
    [{ withoutCompanion: 'Await' }, WITHOUT],
    [{ withoutCompanion: true }, "Option 'withoutCompanion' must be string"],
    [{ withoutCompanion: null }, "Option 'withoutCompanion' must be string"],
    [{ concurency: 2 }, "Unknown option 'concurency'"],
    [{ timeout: 1_000 }, "Unknown option 'timeout'"],
    [{ order: 'lifo', more: 1 }, "Unknown option 'more'"],
    [{ more: 1, order: 'random' }, "Unknown option 'more'"],
    [{ toString: 1 }, "Unknown option 'toString'"],
    [{ concurrency: 0, order: 'random' }, ORDER],
    [null, given('null')],
    [[], given('an array')],
    [[{ order: 'lifo' }], given('an array')],
    ['fifo', given('"fifo" (string)')],
    [4, given('4 (number)')],
    [true, given('true (boolean)')],
    [() => {}, given('a function')],
  ])('%j: %s', (options, expected) => {
    const [, name] = /^Option '(\w+)'/.exec(expected) ?? []
    const message = expected + (name ? `, got ${describeValue(options[name])}` : '')
    for (const call of [postInvoke, postInvokeValidateOptions]) {
      const error = thrownBy(() => call(options)) as Error
      expect(error).toBeInstanceOf(TypeError)
      expect(error.name).toBe('TypeError')
      expect(error.message.replace(/: there are order, concurrency, \w+(, \w+)*$/, '')).toBe(message)
      expect(error.cause).toEqual({ package: 'middy-post-invoke' })
    }
  })
})

it('an option that is wrong is told as it was given', () => {
  const messageOf = (options: any) => (thrownBy(() => postInvoke(options)) as Error).message
  expect(messageOf({ order: 'LIFO' })).toBe('Option \'order\' must be one of ["lifo","fifo"], got "LIFO" (string)')
  expect(messageOf({ concurrency: '2' })).toBe('Option \'concurrency\' must be integer, got "2" (string)')
  expect(messageOf({ concurency: 2 })).toMatch(/^Unknown option 'concurency': there are order, concurrency, \w+/)
  expect(messageOf({ taskTimeout: 0 })).toBe("Option 'taskTimeout' must be >= 1, got 0 (number)")
})

describe('variables', () => {
  it.each<[(variables: Record<string, string | undefined>) => unknown, string, string | undefined, unknown]>([
    ...['auto', 'layer', 'embedded', 'internal', 'off'].map<any>(mode => [
      readCompanionMode,
      'POST_INVOKE_COMPANION',
      mode,
      mode,
    ]),
    [readCompanionMode, 'POST_INVOKE_COMPANION', 'Layer', 'layer'],
    [readCompanionMode, 'POST_INVOKE_COMPANION', '', 'auto'],
    [readCompanionMode, 'POST_INVOKE_COMPANION', undefined, 'auto'],
    ...['DEBUG', 'INFO', 'WARN', 'ERROR', 'SILENT'].map<any>(level => [
      readLogLevel,
      'POST_INVOKE_LOG_LEVEL',
      level,
      level,
    ]),
    [readLogLevel, 'POST_INVOKE_LOG_LEVEL', 'debug', 'DEBUG'],
    [readLogLevel, 'POST_INVOKE_LOG_LEVEL', '', 'WARN'],
    [readLogLevel, 'POST_INVOKE_LOG_LEVEL', undefined, 'WARN'],
    [readSocketAddress, 'POST_INVOKE_SOCKET', '/tmp/socket', '/tmp/socket'],
    [readSocketAddress, 'POST_INVOKE_SOCKET', `/${'x'.repeat(106)}`, `/${'x'.repeat(106)}`],
    [readSocketAddress, 'POST_INVOKE_SOCKET', '', '\0middy-post-invoke/127.0.0.1:9001'],
    [readSocketAddress, 'POST_INVOKE_SOCKET', undefined, '\0middy-post-invoke/127.0.0.1:9001'],
  ])('%p reads %s=%s as %p', (read, name, given, expected) => {
    expect(read({ AWS_LAMBDA_RUNTIME_API: '127.0.0.1:9001', [name]: given })).toBe(expected)
  })

  const MODES = 'one of auto, layer, embedded, internal, off'
  const LEVELS = 'one of DEBUG, INFO, WARN, ERROR, SILENT'
  const PATH = 'an absolute path of at most 107 bytes, or nothing'

  it.each<[(variables: Record<string, string | undefined>) => unknown, string, string, string, string?]>([
    [readCompanionMode, 'POST_INVOKE_COMPANION', 'layers', MODES],
    [readCompanionMode, 'POST_INVOKE_COMPANION', ' layer', MODES],
    [readCompanionMode, 'POST_INVOKE_COMPANION', 'true', MODES],
    [readCompanionMode, 'POST_INVOKE_COMPANION', 'gate', MODES],
    [readLogLevel, 'POST_INVOKE_LOG_LEVEL', 'FATAL', LEVELS],
    [readLogLevel, 'POST_INVOKE_LOG_LEVEL', '0', LEVELS],
    [readLogLevel, 'POST_INVOKE_LOG_LEVEL', 'NONE', LEVELS],
    [readSocketAddress, 'POST_INVOKE_SOCKET', 'socket', PATH],
    [readSocketAddress, 'POST_INVOKE_SOCKET', './socket', PATH],
    [readSocketAddress, 'POST_INVOKE_SOCKET', '@abstract', PATH],
    [readSocketAddress, 'POST_INVOKE_SOCKET', `/${'x'.repeat(107)}`, PATH],
    [readSocketAddress, 'POST_INVOKE_SOCKET', `/${'é'.repeat(54)}`, PATH],
  ])('%p refuses %s=%s', (read, name, given, expected) => {
    const error = thrownBy(() => read({ [name]: given })) as PostInvokeError
    expect(error).toBeInstanceOf(PostInvokeError)
    expect(error).toMatchObject({
      name: 'PostInvokeError',
      code: 'ERR_INVALID_VARIABLE',
      cause: { package: 'middy-post-invoke' },
    })
    // The name as it was written, not as it was read: that is what users look for.
    expect(error.message).toBe(`Expected the variable ${name} to be ${expected}, got ${JSON.stringify(given)}.`)
  })

  it('are quoted as they were given', () => {
    expect(thrownBy(() => readCompanionMode({ POST_INVOKE_COMPANION: 'Layers' }))).toHaveProperty(
      'message',
      `Expected the variable POST_INVOKE_COMPANION to be ${MODES}, got "Layers".`,
    )
    expect(thrownBy(() => readLogLevel({ POST_INVOKE_LOG_LEVEL: 'loud' }))).toHaveProperty(
      'message',
      `Expected the variable POST_INVOKE_LOG_LEVEL to be ${LEVELS}, got "loud".`,
    )
  })
})
