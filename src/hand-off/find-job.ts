// A job by its name, where it is called: in this process, in a thread, or in the function behind the queue.
import type { Job } from './jobs.ts'

/** @throws an Error that says what is there, when the job is not. */
export const findJob = (module: Readonly<Record<string, unknown>>, name: string, where: string): Job => {
  const names = Object.keys(module).filter(key => typeof module[key] === 'function')
  // Own properties alone: "toString" is no job.
  if (names.includes(name)) return module[name] as Job
  const error = new Error(
    `Expected ${where} to export a function ${JSON.stringify(name)}, got ${names.map(key => JSON.stringify(key)).join(', ') || 'none'}`,
  )
  throw Object.assign(error, { isFinal: true })
}

/** To try again would change nothing. */
export const isFinal = (error: unknown): boolean => (error as { isFinal?: unknown } | undefined)?.isFinal === true

/** What was thrown, with no cause and no fields: not every value can be sent to another thread, and none is to be logged whole. */
export const toPlainError = (error: unknown): Error => {
  try {
    const { message, stack = message } = error instanceof Error ? error : new Error(String(error))
    return Object.assign(new Error(message), { stack })
  } catch {
    return new Error('The job threw what cannot be printed.')
  }
}
