// One line a message. In the function's process through the console: the runtime client adds time, request id and level to
// it, and obeys AWS_LAMBDA_LOG_FORMAT and AWS_LAMBDA_LOG_LEVEL. The last lines of a process that ends go to standard error, or
// are finished here for the companion to write. The layer's process has a sink of its own.
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

type Write = (message: string, error?: unknown, fields?: LogFields) => void

export type Log = Record<LogMethod, Write> & {
  /** Warns of one thing no more than once in the life of this process. The line begins with its code. */
  warnOnce(code: `WARN_${string}`, message: string): void
  /**
   * A line of an error, finished here for another process to write: in JSON only the time is missing.
   *
   * @returns the empty text where errors are not logged.
   */
  line(message: string, fields: LogFields): string
  /** For the last moments of a process: what stands in a full pipe, or is written later, is lost with it. */
  errorAtOnce: Write
}

export type LogSink = (method: LogMethod, message: string, fields: LogFields) => void

/** In JSON, the runtime clients take fields only of a lone object; it becomes the line's `message`. */
const throughConsole: LogSink = (method, message, fields) => {
  const isObject = Object.keys(fields).length > 0 && isJsonFormat()
  console[method](...(isObject ? [{ message, ...fields }] : 'error' in fields ? [message, fields.error] : [message]))
}

/** https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-logformat.html */
export const isJsonFormat = (): boolean => isSet('AWS_LAMBDA_LOG_FORMAT', 'JSON')

const isSet = (variable: string, value: string) => process.env[variable]?.toUpperCase() === value

/** How long a full pipe is tried again. */
const FULL_PIPE_MS = 50

export function createLog(
  level: LogLevel = readLogLevel(),
  sink: LogSink = throughConsole,
): Log & { use(logger: Logger): void } {
  const least = logLevels.indexOf(level)
  // Read once: each reading costs more than a line.
  const isJson = isJsonFormat()
  const isSilent = level === 'SILENT' || (isJson && isSet('AWS_LAMBDA_LOG_LEVEL', 'FATAL'))
  const said = new Set<string>()
  let logger: Logger | undefined
  return {
    debug(...given) {
      if (least === 0) write('debug', ...given) // at init V8 has less to compile without it
    },
    warn(...given) {
      write('warn', ...given)
    },
    error(...given) {
      write('error', ...given)
    },
    warnOnce(code, message) {
      if (said.has(code)) return
      said.add(code)
      write('warn', `${code}, ${message}`)
    },
    line,
    errorAtOnce,
    use(given) {
      logger = given === console ? undefined : given
    },
  }

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

  function line(text: string, fields?: object): string {
    if (isSilent) return ''
    const message = ownText(text)
    return `${isJson ? JSON.stringify({ level: 'ERROR', message, ...fields }) : message.replaceAll('\n', ' ')}\n`
  }

  function errorAtOnce(text: string, _error: unknown, fields?: LogFields): void {
    let rest = Buffer.from(line(text, { ...fields, timestamp: new Date() }))
    for (const end = performance.now() + FULL_PIPE_MS; rest.length > 0 && performance.now() < end; ) {
      try {
        rest = rest.subarray(builtIn('node:fs').writeSync(2, rest))
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return
      }
    }
  }
}

const ownText = (text: string) => `middy-post-invoke: ${text}`
