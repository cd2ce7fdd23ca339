// One line a message, through the console: the runtime client adds time, request id and level to it, and obeys
// AWS_LAMBDA_LOG_FORMAT and AWS_LAMBDA_LOG_LEVEL.
import { type LogLevel, logLevels, readLogLevel } from './variables.ts'

export type Log = {
  debug(message: string): void
  warn(message: string, error?: unknown): void
  error(message: string, error?: unknown): void
  /** Warns of one thing (`topic`) no more than once in the life of this process. */
  warnOnce(topic: string, message: string): void
}

export const createLog = (
  level: LogLevel = readLogLevel(),
  sink: Pick<Console, 'debug' | 'warn' | 'error'> = console,
): Log => {
  const least = logLevels.indexOf(level)
  const said = new Set<string>()
  const write = (method: 'debug' | 'warn' | 'error', message: string, error?: unknown) => {
    if (logLevels.indexOf(method.toUpperCase() as LogLevel) < least) return
    // A log line must never be what fails an invocation: a console can be patched, an error unprintable.
    try {
      if (error === undefined) sink[method](`middy-post-invoke: ${message}`)
      else sink[method](`middy-post-invoke: ${message}`, error)
    } catch {}
  }
  return {
    debug: message => write('debug', message),
    warn: (message, error) => write('warn', message, error),
    error: (message, error) => write('error', message, error),
    warnOnce: (topic, message) => {
      if (said.has(topic)) return
      said.add(topic)
      write('warn', message)
    },
  }
}
