// The log of the layer's process, which has no runtime client that would format and filter its lines: it does both itself.
import { createLog, isJsonFormat, type Log, type LogMethod, type LogSink } from '../log.ts'
import { type LogLevel, readLogLevel } from '../variables.ts'

/** Those of AWS_LAMBDA_LOG_LEVEL, from the least on. */
const levels = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL']

export const createLayerLog = (level: LogLevel = readLogLevel()): Log => createLog(level, write)

const write: LogSink = (method, message, fields) => {
  const name = method.toUpperCase()
  if (levels.indexOf(name) < levels.indexOf(process.env.AWS_LAMBDA_LOG_LEVEL?.toUpperCase() ?? '')) return
  if (isJsonFormat()) writeJson(method, message, fields)
  else if (fields.error === undefined) console[method](message)
  else console[method](message, fields.error)
}

/** Lambda takes level and time out of such a line: https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html */
const writeJson = (method: LogMethod, message: string, { error, ...fields }: Parameters<LogSink>[2]) => {
  const line = {
    timestamp: new Date().toISOString(),
    level: method.toUpperCase(),
    message,
    ...fields,
    ...(error !== undefined && describeError(error)),
  }
  process.stdout.write(`${JSON.stringify(line)}\n`)
}

/** Under the names that the runtime clients give them. */
const describeError = (error: unknown) =>
  error instanceof Error
    ? { errorType: error.name, errorMessage: error.message, stackTrace: error.stack?.split('\n') }
    : { errorMessage: String(error) }
