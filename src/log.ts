// One line a message. In the function's process through the console: the runtime client adds time, request id and level to
// it, and obeys AWS_LAMBDA_LOG_FORMAT and AWS_LAMBDA_LOG_LEVEL. The layer's process has a sink of its own.
import { builtIn } from './built-in.ts'
import { type LogLevel, logLevels, readLogLevel } from './variables.ts'

/** What a line is about, apart from its text. */
export type LogFields = {
  /** The task's name. */
  readonly task?: string
  /** The names of several tasks, at most 50. */
  readonly tasks?: readonly string[]
  /** The shutdown hook's name. */
  readonly hook?: string
  /** The request that it is about. Of a task that was carried over, this is not the request in whose time it runs. */
  readonly requestId?: string
  /** The tenant of the request, where the function isolates tenants. */
  readonly tenantId?: string
  /** What was thrown. */
  readonly error?: unknown
}

/** What the `logger` option takes: the Logger of Powertools for AWS Lambda, `console`, or another with these methods. */
export type Logger = {
  /** Which companion was chosen, which tasks are not run for their `on`, and handed-off work that is done. */
  debug(message: string, fields: LogFields): void
  /** Once a process: what is not as it should be. Each time: what is carried over, or waits on. */
  warn(message: string, fields: LogFields): void
  /** A task that failed or was lost, and a fault. */
  error(message: string, fields: LogFields): void
}

export const logMethods = ['debug', 'warn', 'error'] as const
export type LogMethod = (typeof logMethods)[number]

export type Log = Record<LogMethod, (message: string, error?: unknown, fields?: LogFields) => void> & {
  /** Warns of one thing no more than once in the life of this process. The line begins with its code. */
  warnOnce(code: `WARN_${string}`, message: string): void
}

export type LogSink = (method: LogMethod, message: string, fields: LogFields) => void

/** In JSON, the runtime clients take fields only of a lone object; it becomes the line's `message`. */
const throughConsole: LogSink = (method, message, fields) => {
  if (Object.keys(fields).length > 0 && isJsonFormat()) console[method]({ message, ...fields })
  else if (fields.error !== undefined) console[method](message, fields.error)
  else console[method](message)
}

/** https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-logformat.html */
export const isJsonFormat = (): boolean => isSet('AWS_LAMBDA_LOG_FORMAT', 'JSON')

const isSet = (variable: string, value: string) => process.env[variable]?.toUpperCase() === value

/**
 * Error lines finished here, for another process to write: in JSON only the time is missing. The variables are read once:
 * each reading costs more than a line.
 *
 * @returns what makes a line of its text, or the empty text where errors are not logged.
 */
export function finishedLines(): (text: string, fields: LogFields) => string {
  const isJson = isJsonFormat()
  const isSilent = isSet('POST_INVOKE_LOG_LEVEL', 'SILENT') || (isJson && isSet('AWS_LAMBDA_LOG_LEVEL', 'FATAL'))
  return lineOf
  function lineOf(text: string, fields: LogFields) {
    if (isSilent) return ''
    const message = ownText(text)
    return `${isJson ? JSON.stringify({ level: 'ERROR', message, ...fields }) : message.replaceAll('\n', ' ')}\n`
  }
}

const ownText = (text: string) => `middy-post-invoke: ${text}`

/** For the last moments of a process: what stands in a full pipe, or is written later, is lost with it. */
export const writeSynchronously = {
  error(text: string, _error: unknown, fields: LogFields = {}): void {
    const line = finishedLines()(text, fields).replace(/^\{/, `{"timestamp":"${new Date().toISOString()}",`)
    let rest = Buffer.from(line)
    for (const end = performance.now() + FULL_PIPE_MS; rest.length > 0 && performance.now() < end; ) {
      try {
        rest = rest.subarray(builtIn('node:fs').writeSync(2, rest))
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return
      }
    }
  },
}

/** How long a full pipe is tried again. */
const FULL_PIPE_MS = 50

export function createLog(
  level: LogLevel = readLogLevel(),
  sink: LogSink = throughConsole,
): Log & { use(logger: Logger): void } {
  const least = logLevels.indexOf(level)
  const said = new Set<string>()
  let logger: Logger | undefined
  /** Never throws and never rejects: a console can be patched, an error unprintable, a logger broken. */
  async function write(method: LogMethod, text: string, error?: unknown, fields?: LogFields) {
    if (logLevels.indexOf(method.toUpperCase() as LogLevel) < least) return
    const message = ownText(text)
    const all = error === undefined ? { ...fields } : { ...fields, error }
    try {
      if (logger) return await logger[method](message, all)
    } catch {}
    try {
      sink(method, message, all)
    } catch {}
  }
  return {
    debug(...line) {
      if (least === 0) write('debug', ...line) // at init V8 has less to compile without it
    },
    warn(...line) {
      write('warn', ...line)
    },
    error(...line) {
      write('error', ...line)
    },
    warnOnce(code, message) {
      if (said.has(code)) return
      said.add(code)
      write('warn', `${code}, ${message}`)
    },
    use(given) {
      logger = given === console ? undefined : given
    },
  }
}
