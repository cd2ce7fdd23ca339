// A job by its name, where it is called: in this process, in a thread, or in the function behind the queue.
import type { JobWork } from './entry.ts'

/** What a job is given beside its payload. */
export type JobContext = {
  /** The same each time that this work is tried: for whoever must not do it twice. */
  readonly idempotencyKey: string
  /** The request that handed it off. */
  readonly awsRequestId: string
  /** The tenant of that request, where the function isolates tenants. */
  readonly tenantId?: string | undefined
  /** 1 for the first one, also when an earlier one has died with its process. */
  readonly attempt: number
  /** Aborted when the job's time is up. */
  readonly signal: AbortSignal
}

/** A function of the jobs module. What it throws, or rejects with, has it tried again. */
export type Job = (payload: any, context: JobContext) => unknown

export type CallOptions = JobContext & {
  /** The jobs module. */
  readonly file: string
}

/** `url`: of the file. */
export type WorkerCall = JobWork & Omit<CallOptions, 'signal'> & { readonly url: string }
/** `isFinal`: to try again would change nothing. */
export type WorkerOutcome = { readonly failure?: { readonly error: Error; readonly isFinal: boolean } }

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
