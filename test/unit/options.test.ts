// Everything that users can get wrong before the first invocation: options of the middleware, and variables.
import { describe, expect, it } from '@jest/globals'
import { describe as describeValue, PostInvokeError } from '../../src/errors.ts'
import postInvoke, { postInvokeValidateOptions } from '../../src/index.ts'
import { isManagedInstances, readCompanionMode, readFolder, readLogLevel } from '../../src/variables.ts'
import { thrownBy } from './helpers.ts'

describe('options that are right', () => {
  it.each<[string, any]>([
    ['none', undefined],
    ['an empty object', {}],
    ['all', { order: 'fifo', concurrency: 8, taskTimeout: 1, deadlineMargin: 100, withoutCompanion: 'throw' }],
    ['those of a drain', { onDeadline: 'carry', maxCarried: 1, shutdown: false }],
    ['waitUntil', { waitUntil: true }],
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
  const NAMES =
    'order, concurrency, taskTimeout, deadlineMargin, onDeadline, maxCarried, onTaskError, withoutCompanion, shutdown, waitUntil, logger'
  const LOGGER = 'an object with the methods debug, warn, error'

  it.each<[string, string, unknown[]]>([
    ['order', "'lifo' or 'fifo'", ['random', 'LIFO', '', 1, null, ['lifo']]],
    ...(['concurrency', 'taskTimeout', 'maxCarried'] as const).map<[string, string, unknown[]]>(name => [
      name,
      'a whole number from 1 up',
      [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, '1', null, true, [], {}, 1n],
    ]),
    ['deadlineMargin', 'a whole number from 100 up', [0, 99, 250.5, '250', null]],
    ['onTaskError', 'a function', ['log', 1, null, {}, []]],
    ['onDeadline', "'carry' or 'drop'", ['keep', true]],
    ['shutdown', 'true or false', [1, 0, 'true', null, {}]],
    ['waitUntil', 'true or false', ['no', 1, null]],
    ['logger', LOGGER, [true, 'console', () => {}, null, 0, {}, { debug() {}, warn() {}, error: 'a text' }]],
    ['withoutCompanion', "'await' or 'detach' or 'throw'", ['ignore', 'Await', true, null]],
  ])('%s must be %s', (name, expected, values) => {
    for (const value of values) {
      refuses(
        { [name]: value },
        `Expected the option ${name} of postInvoke() to be ${expected}, got ${describeValue(value)}.`,
      )
    }
  })

  it.each<[any, string]>([
    [{ concurency: 2 }, 'concurency'],
    [{ timeout: 1_000 }, 'timeout'],
    [{ metrics: true }, 'metrics'],
    [{ order: 'lifo', more: 1 }, 'more'],
    [{ more: 1, order: 'random' }, 'more'],
    [{ toString: 1 }, 'toString'],
    [{ constructor: 1 }, 'constructor'],
  ])('%j: there is no such option', (options, name) => {
    refuses(options, `Expected the options of postInvoke() to be among ${NAMES}, got '${name}'.`)
  })

  it.each<[any, string]>([
    [null, 'null'],
    [[], '[Array]'],
    [[{ order: 'lifo' }], '[Array]'],
    ['fifo', "'fifo'"],
    [4, '4'],
    [true, 'true'],
    [() => {}, '[Function (anonymous)]'],
  ])('%p are none', (options, described) => {
    refuses(options, `Expected the options of postInvoke() to be an object, got ${described}.`)
  })

  const refuses = (options: any, message: string) => {
    for (const call of [postInvoke, postInvokeValidateOptions]) {
      const error = thrownBy(() => call(options)) as Error
      expect(error).toBeInstanceOf(TypeError)
      expect(error.name).toBe('TypeError')
      expect(error.message).toBe(message)
      expect(error).toMatchObject({ code: 'ERR_INVALID_OPTION', cause: { package: 'middy-post-invoke' } })
      expect((error.cause as any).data).toBe(options)
    }
  }
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
    [readFolder, 'POST_INVOKE_FOLDER', '/var/run', '/var/run'],
    [readFolder, 'POST_INVOKE_FOLDER', '', '/tmp'],
    [readFolder, 'POST_INVOKE_FOLDER', undefined, '/tmp'],
    [isManagedInstances, 'AWS_LAMBDA_MAX_CONCURRENCY', '8', true],
    [isManagedInstances, 'AWS_LAMBDA_INITIALIZATION_TYPE', 'lambda-managed-instances', true],
    [isManagedInstances, 'AWS_LAMBDA_INITIALIZATION_TYPE', 'on-demand', false],
    [isManagedInstances, 'AWS_LAMBDA_INITIALIZATION_TYPE', undefined, false],
  ])('%p reads %s=%s as %p', (read, name, given, expected) => {
    expect(read({ AWS_LAMBDA_RUNTIME_API: '127.0.0.1:9001', [name]: given })).toBe(expected)
  })

  const MODES = 'one of auto, layer, embedded, internal, off'
  const LEVELS = 'one of DEBUG, INFO, WARN, ERROR, SILENT'
  const PATH = 'an absolute path, or nothing'

  it.each<[(variables: Record<string, string | undefined>) => unknown, string, string, string, string?]>([
    [readCompanionMode, 'POST_INVOKE_COMPANION', 'layers', MODES],
    [readCompanionMode, 'POST_INVOKE_COMPANION', ' layer', MODES],
    [readCompanionMode, 'POST_INVOKE_COMPANION', 'true', MODES],
    [readCompanionMode, 'POST_INVOKE_COMPANION', 'gate', MODES],
    [readLogLevel, 'POST_INVOKE_LOG_LEVEL', 'FATAL', LEVELS],
    [readLogLevel, 'POST_INVOKE_LOG_LEVEL', '0', LEVELS],
    [readLogLevel, 'POST_INVOKE_LOG_LEVEL', 'NONE', LEVELS],
    [readFolder, 'POST_INVOKE_FOLDER', 'tmp', PATH],
    [readFolder, 'POST_INVOKE_FOLDER', './tmp', PATH],
    [readFolder, 'POST_INVOKE_FOLDER', 'relative', PATH],
  ])('%p refuses %s=%s', (read, name, given, expected) => {
    const error = thrownBy(() => read({ [name]: given })) as PostInvokeError
    expect(error).toBeInstanceOf(PostInvokeError)
    expect(error).toMatchObject({
      name: 'PostInvokeError',
      code: 'ERR_INVALID_VARIABLE',
      cause: { package: 'middy-post-invoke' },
    })
    // The name as it was written, not as it was read: that is what users look for.
    expect(error.message).toBe(`Expected the variable ${name} to be ${expected}, got '${given}'.`)
  })

  it('are quoted as they were given', () => {
    expect(thrownBy(() => readCompanionMode({ POST_INVOKE_COMPANION: 'Layers' }))).toHaveProperty(
      'message',
      `Expected the variable POST_INVOKE_COMPANION to be ${MODES}, got 'Layers'.`,
    )
    expect(thrownBy(() => readLogLevel({ POST_INVOKE_LOG_LEVEL: 'loud' }))).toHaveProperty(
      'message',
      `Expected the variable POST_INVOKE_LOG_LEVEL to be ${LEVELS}, got 'loud'.`,
    )
  })
})
