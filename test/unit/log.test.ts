import { describe, expect, it, jest } from '@jest/globals'
import { createLog } from '../../src/log.ts'
import { type LogLevel, logLevels } from '../../src/variables.ts'

const createSink = () => ({ debug: jest.fn(), warn: jest.fn(), error: jest.fn() })

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
    const written = (['debug', 'warn', 'error'] as const).filter(method => sink[method].mock.calls.length === 1)
    expect(written).toEqual(expected)
    expect(logLevels).toContain(level)
  })

  it('says whose line it is, and hands the error on as it is', () => {
    const sink = createSink()
    const log = createLog('DEBUG', sink)
    const error = new Error('cause')
    log.warn('it broke', error)
    log.error('it broke')
    log.error('it broke', null)
    expect(sink.warn.mock.calls).toEqual([['middy-post-invoke: it broke', error]])
    expect(sink.error.mock.calls).toEqual([['middy-post-invoke: it broke'], ['middy-post-invoke: it broke', null]])
  })

  it('warns of one topic once, and of another as well', () => {
    const sink = createSink()
    const log = createLog('WARN', sink)
    log.warnOnce('gate', 'first')
    log.warnOnce('gate', 'second')
    log.warnOnce('layer', 'third')
    expect(sink.warn.mock.calls).toEqual([['middy-post-invoke: first'], ['middy-post-invoke: third']])
  })

  it('keeps the topics of each log apart', () => {
    const sink = createSink()
    createLog('WARN', sink).warnOnce('gate', 'first')
    createLog('WARN', sink).warnOnce('gate', 'first')
    expect(sink.warn).toHaveBeenCalledTimes(2)
  })

  it('never throws, though its sink does', () => {
    const fail = () => {
      throw new Error('patched console')
    }
    const log = createLog('DEBUG', { debug: fail, warn: fail, error: fail })
    expect(() => {
      log.debug('a')
      log.warn('a', new Error('b'))
      log.error('a', new Error('b'))
      log.warnOnce('a', 'b')
    }).not.toThrow()
  })

  it('uses the console as it is at the time: others patch it after us', () => {
    const log = createLog('WARN')
    const warn = jest.spyOn(console, 'warn').mockImplementation(() => {})
    log.warn('late')
    expect(warn.mock.calls).toEqual([['middy-post-invoke: late']])
    warn.mockRestore()
  })
})
