import fs from 'node:fs'
import { afterEach, describe, expect, it, jest } from '@jest/globals'
import { createLog, type LogFields, type Logger, type LogSink } from '../../src/log.ts'
import { type LogLevel, logLevels } from '../../src/variables.ts'
import { turn } from './helpers.ts'

const createSink = () => jest.fn<LogSink>()

const createLogger = () => ({ debug: jest.fn(), warn: jest.fn(), error: jest.fn() })

const fail = (): never => {
  throw new Error('broken')
}

afterEach(() => {
  jest.restoreAllMocks()
  for (const name of ['AWS_LAMBDA_LOG_FORMAT', 'AWS_LAMBDA_LOG_LEVEL', 'POST_INVOKE_LOG_LEVEL'])
    delete process.env[name]
})

describe('a log', () => {
  it.each<[LogLevel, string[]]>([
    ['DEBUG', ['debug', 'warn', 'error']],
    ['INFO', ['warn', 'error']],
    ['WARN', ['warn', 'error']],
    ['ERROR', ['error']],
    ['SILENT', []],
  ])('of level %s writes %j', (level, expected) => {
    const sink = createSink()
    const log = createLog(level, sink)
    log.debug('a')
    log.warn('a')
    log.error('a')
    expect(sink.mock.calls.map(([method]) => method)).toEqual(expected)
    expect(logLevels).toContain(level)
  })

  it('says whose line it is, and hands error and fields on as they are', () => {
    const sink = createSink()
    const log = createLog('DEBUG', sink)
    const error = new Error('cause')
    log.debug('it is so', undefined, { requestId: 'r1' })
    log.warn('it broke', error)
    log.error('it broke')
    log.error('it broke', null, { task: 'mail', requestId: 'r1' })
    expect(sink.mock.calls).toEqual([
      ['debug', 'middy-post-invoke: it is so', { requestId: 'r1' }],
      ['warn', 'middy-post-invoke: it broke', { error }],
      ['error', 'middy-post-invoke: it broke', {}],
      ['error', 'middy-post-invoke: it broke', { error: null, task: 'mail', requestId: 'r1' }],
    ])
  })

  it('warns of one thing once, with its code, and of another as well', () => {
    const sink = createSink()
    const log = createLog('WARN', sink)
    log.warnOnce('WARN_GATE', 'first')
    log.warnOnce('WARN_GATE', 'second')
    log.warnOnce('WARN_LAYER', 'third')
    const lines = ['middy-post-invoke: WARN_GATE, first', 'middy-post-invoke: WARN_LAYER, third']
    expect(sink.mock.calls.map(([, message]) => message)).toEqual(lines)
  })

  it('keeps what each log has said apart', () => {
    const sink = createSink()
    createLog('WARN', sink).warnOnce('WARN_GATE', 'first')
    createLog('WARN', sink).warnOnce('WARN_GATE', 'first')
    expect(sink).toHaveBeenCalledTimes(2)
  })

  it('never throws, though its sink does', () => {
    const log = createLog('DEBUG', fail)
    expect(() => {
      log.debug('a')
      log.warn('a', new Error('b'))
      log.error('a', new Error('b'))
      log.warnOnce('WARN_A', 'b')
    }).not.toThrow()
  })
})

describe('a log without a sink', () => {
  const error = new Error('cause')

  it('uses the console as it is at the time: others patch it after us', () => {
    const log = createLog('WARN')
    const warn = jest.spyOn(console, 'warn').mockImplementation(() => {})
    log.warn('late')
    expect(warn.mock.calls).toEqual([['middy-post-invoke: late']])
  })

  it.each<[string, unknown, LogFields | undefined, unknown[]]>([
    ['the text', undefined, undefined, ['middy-post-invoke: it broke']],
    ['no fields: the text has them', undefined, { requestId: 'r1' }, ['middy-post-invoke: it broke']],
    ['the error behind it', error, { requestId: 'r1' }, ['middy-post-invoke: it broke', error]],
  ])('as text writes %s', (_, thrown, fields, written) => {
    const log = createLog('WARN')
    const spy = jest.spyOn(console, 'error').mockImplementation(() => {})
    log.error('it broke', thrown, fields)
    expect(spy.mock.calls).toEqual([written])
  })

  it.each<[string, unknown, LogFields | undefined, unknown[]]>([
    ['the text alone where there is no more', undefined, undefined, ['middy-post-invoke: it broke']],
    [
      'one object of text and fields',
      undefined,
      { requestId: 'r1', task: 'mail' },
      [{ message: 'middy-post-invoke: it broke', requestId: 'r1', task: 'mail' }],
    ],
    [
      'the error in it',
      error,
      { requestId: 'r1' },
      [{ message: 'middy-post-invoke: it broke', requestId: 'r1', error }],
    ],
  ])('as JSON writes %s', (_, thrown, fields, written) => {
    process.env.AWS_LAMBDA_LOG_FORMAT = 'Json'
    const log = createLog('WARN')
    const spy = jest.spyOn(console, 'error').mockImplementation(() => {})
    log.error('it broke', thrown, fields)
    expect(spy.mock.calls).toEqual([written])
  })
})

describe('a log with a logger', () => {
  const error = new Error('cause')

  it('gives it text and fields, and the console nothing', () => {
    const sink = createSink()
    const logger = createLogger()
    const log = createLog('DEBUG', sink)
    log.use(logger)
    log.debug('a', undefined, { requestId: 'r1' })
    log.warn('b')
    log.error('c', error, { task: 'mail' })
    log.warnOnce('WARN_D', 'd')
    log.warnOnce('WARN_D', 'd')
    expect(logger.debug.mock.calls).toEqual([['middy-post-invoke: a', { requestId: 'r1' }]])
    expect(logger.warn.mock.calls).toEqual([
      ['middy-post-invoke: b', {}],
      ['middy-post-invoke: WARN_D, d', {}],
    ])
    expect(logger.error.mock.calls).toEqual([['middy-post-invoke: c', { task: 'mail', error }]])
    expect(sink).not.toHaveBeenCalled()
  })

  it('calls it as a method', () => {
    class Counting implements Logger {
      #lines = 0
      get lines() {
        return this.#lines
      }
      debug() {}
      warn() {
        this.#lines++
      }
      error() {}
    }
    const logger = new Counting()
    const sink = createSink()
    const log = createLog('WARN', sink)
    log.use(logger)
    log.warn('a')
    expect(logger.lines).toBe(1)
    expect(sink).not.toHaveBeenCalled()
  })

  it('keeps to the level all the same', () => {
    const logger = createLogger()
    const log = createLog('ERROR', createSink())
    log.use(logger)
    log.warn('a')
    expect(logger.warn).not.toHaveBeenCalled()
  })

  it('takes the console for what it is without one', () => {
    const sink = createSink()
    const log = createLog('WARN', sink)
    log.use(console)
    log.error('a', error)
    expect(sink.mock.calls).toEqual([['error', 'middy-post-invoke: a', { error }]])
  })

  it.each([
    ['throws', fail],
    ['rejects', () => Promise.reject(new Error('broken'))],
  ])('that %s writes the line itself, once', async (_, broken) => {
    const sink = createSink()
    const log = createLog('WARN', sink)
    log.use({ debug: broken, warn: broken, error: broken })
    expect(() => log.error('a', error, { task: 'mail' })).not.toThrow()
    await turn()
    expect(sink.mock.calls).toEqual([['error', 'middy-post-invoke: a', { error, task: 'mail' }]])
  })
})

describe('a finished line, for the log of another process', () => {
  const line = () => createLog().line('two\nlines', { requestId: 'r1', tasks: ['"a"'] })

  it('as text is one line, whatever the text', () => {
    expect(line()).toBe('middy-post-invoke: two lines\n')
  })

  it('as JSON lacks nothing but the time', () => {
    process.env.AWS_LAMBDA_LOG_FORMAT = 'json'
    expect(line()).toMatch(/^\{"level":"ERROR",[^\n]*\}\n$/)
    expect(JSON.parse(line())).toEqual({
      level: 'ERROR',
      message: 'middy-post-invoke: two\nlines',
      requestId: 'r1',
      tasks: ['"a"'],
    })
  })

  it.each<[string, Record<string, string>, boolean]>([
    ['our level leaves errors out', { POST_INVOKE_LOG_LEVEL: 'silent' }, false],
    ['our level has them', { POST_INVOKE_LOG_LEVEL: 'ERROR' }, true],
    ["Lambda's level leaves them out", { AWS_LAMBDA_LOG_FORMAT: 'JSON', AWS_LAMBDA_LOG_LEVEL: 'fatal' }, false],
    ["Lambda's level has them", { AWS_LAMBDA_LOG_FORMAT: 'JSON', AWS_LAMBDA_LOG_LEVEL: 'ERROR' }, true],
    ['Lambda has a level for JSON alone', { AWS_LAMBDA_LOG_LEVEL: 'FATAL' }, true],
  ])('where %s', (_, variables, isThere) => {
    Object.assign(process.env, variables)
    expect(line() !== '').toBe(isThere)
  })
})

describe('a line of the last moments', () => {
  /** A standard error that takes so many bytes each time, and none where it is full. */
  const play = (...takes: (number | 'full' | 'broken')[]) => {
    let written = ''
    let calls = 0
    let time = 0
    jest.spyOn(performance, 'now').mockImplementation(() => time++) // it gives up after a while
    jest.spyOn(fs, 'writeSync').mockImplementation(((fd: number, bytes: Buffer) => {
      expect(fd).toBe(2)
      const take = takes[Math.min(calls++, takes.length - 1)] as number | 'full' | 'broken'
      if (typeof take === 'string') throw Object.assign(new Error(take), { code: take === 'full' ? 'EAGAIN' : 'EPIPE' })
      written += bytes.subarray(0, take)
      return Math.min(take, bytes.length)
    }) as any)
    createLog().errorAtOnce('lost: "mail"', undefined, { requestId: 'r1' })
    return { written, calls }
  }
  const LINE = 'middy-post-invoke: lost: "mail"\n'

  it.each<[string, (number | 'full')[]]>([
    ['at once', [1_000]],
    ['in parts', [5, 10, 1_000]],
    ['when there is room again', ['full', 'full', 3, 'full', 1_000]],
  ])('is written whole, %s', (_, takes) => {
    expect(play(...takes).written).toBe(LINE)
  })

  it('that can never be written keeps nothing from ending', () => {
    expect(play('full')).toMatchObject({ written: '' })
    expect(play('broken')).toEqual({ written: '', calls: 1 })
  })

  it('as JSON has its time, which nobody else adds', () => {
    process.env.AWS_LAMBDA_LOG_FORMAT = 'JSON'
    expect(JSON.parse(play(1_000).written)).toEqual({
      timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      level: 'ERROR',
      message: 'middy-post-invoke: lost: "mail"',
      requestId: 'r1',
    })
  })

  it('is none where errors are not logged', () => {
    process.env.POST_INVOKE_LOG_LEVEL = 'SILENT'
    expect(play(1_000).calls).toBe(0)
  })
})
