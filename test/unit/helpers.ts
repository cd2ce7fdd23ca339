// What several unit tests need: a log that remembers, waits that count turns of the event loop, and Lambda's context.
import type { Context as LambdaContext } from 'aws-lambda'
import type { Log, LogFields } from '../../src/log.ts'

export type LogLine = { level: 'debug' | 'warn' | 'error'; message: string; error?: unknown }

/** A log that remembers each line, and its fields apart; `warnOnce` keeps its promise. */
export const recordLog = (): Log & {
  lines: LogLine[]
  fields: (LogFields | undefined)[]
  /** What was warned of once. */
  codes: string[]
  of(level: LogLine['level']): string[]
} => {
  const lines: LogLine[] = []
  const codes: string[] = []
  const allFields: (LogFields | undefined)[] = []
  const write = (level: LogLine['level'], message: string, error?: unknown, fields?: LogFields) => {
    allFields.push(fields)
    lines.push(error === undefined ? { level, message } : { level, message, error })
  }
  return {
    lines,
    fields: allFields,
    codes,
    of: level => lines.filter(line => line.level === level).map(({ message }) => message),
    debug: (message, error, fields) => write('debug', message, error, fields),
    warn: (message, error, fields) => write('warn', message, error, fields),
    error: (message, error, fields) => write('error', message, error, fields),
    warnOnce: (code, message) => {
      if (codes.includes(code)) return
      codes.push(code)
      write('warn', message)
    },
    line: (message, fields) => `${JSON.stringify({ message, ...fields })}\n`,
    errorAtOnce: (message, error, fields) => write('error', message, error, fields),
  }
}

export const turn = () => new Promise<void>(resolve => setImmediate(resolve))

export const turns = async (count: number) => {
  for (let index = 0; index < count; index++) await turn()
}

/** Waits for something to become so; a test that waits in vain fails here, and says for what. */
export const until = async (condition: () => boolean, what = condition.toString()) => {
  const end = performance.now() + 20_000
  while (!condition()) {
    if (performance.now() > end) throw new Error(`Waited in vain until ${what}`)
    await new Promise(resolve => setTimeout(resolve, 1))
  }
}

/** What a thunk throws, `undefined` if it does not. */
export const thrownBy = (act: () => unknown): unknown => {
  try {
    act()
  } catch (error) {
    return error
  }
  return undefined
}

export const lambdaContext = (awsRequestId = 'request-1', remaining?: () => number): any =>
  ({ awsRequestId, ...(remaining && { getRemainingTimeInMillis: remaining }) }) as Partial<LambdaContext>
