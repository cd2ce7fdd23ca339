// Calls the functions of the jobs module, in this process or in a worker thread.
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Worker } from 'node:worker_threads'
import type { JobWork, RetryOptions } from './entry.ts'

/** What a job is given beside its payload. */
export type JobContext = {
  /** The same each time that this work is tried: for whoever must not do it twice. */
  readonly idempotencyKey: string
  /** The request that handed it off. */
  readonly awsRequestId: string
  /** 1 for the first one. */
  readonly attempt: number
  /** Aborted when the job's time is up. */
  readonly signal: AbortSignal
}

/** A function of the jobs module. What it throws, or rejects with, has it tried again. */
export type Job = (payload: any, context: JobContext) => unknown

export type CallOptions = {
  readonly idempotencyKey: string
  readonly awsRequestId: string
  readonly signal: AbortSignal
}

/** @returns what came of it, for a log line. */
export type CallJob = (work: JobWork, options: CallOptions) => Promise<string>

const RETRY = { maxRetries: 2, minTimeout: 500, maxTimeout: 30_000, timeoutFactor: 2 }

export const callInThisProcess: CallJob = (work, options) =>
  retrying(work, options.signal, async (attempt, signal) => {
    const { idempotencyKey, awsRequestId } = options
    const job = await importJob(work.module, work.job)
    await job(work.payload, { idempotencyKey, awsRequestId, attempt, signal })
  })

/** One is kept for the next job: a thread starts in 15 ms, and the module it has imported may take longer. */
let idle: Worker | undefined

/**
 * In a thread. A job that burns CPU can be ended there, and one that ends its process, or leaves an error uncaught, ends
 * its thread: the companion is an extension, and for Lambda the end of an extension is a crash.
 */
export const callInWorker: CallJob = (work, options) =>
  retrying(work, options.signal, async (attempt, signal) => {
    const { idempotencyKey, awsRequestId } = options
    const worker = takeWorker()
    const ended = Promise.withResolvers<void>()
    const onMessage = ({ failure }: WorkerOutcome) => {
      if (!failure) ended.resolve()
      else ended.reject(Object.assign(failure.error, { isFinal: failure.isFinal }))
    }
    const onExit = (code: number) => ended.reject(new Error(`the job ended its thread with code ${code}`))
    const onAbort = () => {
      worker.postMessage('abort')
      setTimeout(() => ended.reject(signal.reason), ABORT_GRACE_MS)
    }
    worker.on('message', onMessage).on('error', ended.reject).on('exit', onExit)
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      worker.postMessage({ ...work, idempotencyKey, awsRequestId, attempt } satisfies WorkerCall)
      await ended.promise
    } catch (error) {
      await worker.terminate()
      throw error
    } finally {
      signal.removeEventListener('abort', onAbort)
      worker.off('message', onMessage).off('error', ended.reject).off('exit', onExit)
    }
    keep(worker)
  })

const takeWorker = (): Worker => {
  const worker = idle ?? startWorker()
  idle = undefined
  worker.ref()
  return worker
}

const startWorker = (): Worker => {
  const { Worker } = process.getBuiltinModule('node:worker_threads')
  const worker: Worker = new Worker(join(__dirname, 'job-worker.cjs'))
  // What ends while it is idle is forgotten. And an error of a thread that nobody listens to would end this process.
  const forget = () => {
    if (idle === worker) idle = undefined
  }
  return worker.on('error', forget).on('exit', forget)
}

const keep = (worker: Worker) => {
  if (idle) return void worker.terminate()
  idle = worker
  worker.unref()
}

/** An aborted job has this long to clean up. */
const ABORT_GRACE_MS = 50

export type WorkerCall = JobWork & Pick<JobContext, 'idempotencyKey' | 'awsRequestId' | 'attempt'>
/** `isFinal`: to try again would change nothing. */
export type WorkerOutcome = { readonly failure?: { readonly error: Error; readonly isFinal: boolean } }

/** @throws an Error that says what is there, when the job is not. */
export const importJob = async (file: string, name: string): Promise<Job> =>
  findJob(await import(pathToFileURL(file).href), name, file)

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

const retrying = async (
  { retry = {}, timeout }: { retry?: RetryOptions | undefined; timeout?: number | undefined },
  signal: AbortSignal,
  act: (attempt: number, signal: AbortSignal) => Promise<void>,
): Promise<string> => {
  const { maxRetries, minTimeout, maxTimeout, timeoutFactor } = { ...RETRY, ...(retry as object) }
  for (let attempt = 1; ; attempt++) {
    const limits = timeout === undefined ? signal : AbortSignal.any([signal, AbortSignal.timeout(timeout)])
    try {
      limits.throwIfAborted()
      await orAborted(act(attempt, limits), limits)
      return `attempts: ${attempt}`
    } catch (error) {
      if (signal.aborted || isFinal(error)) throw error
      if (attempt > maxRetries) throw new Error(`${messageOf(error)}, attempts: ${attempt}`, { cause: error })
      await wait(Math.min(minTimeout * timeoutFactor ** (attempt - 1), maxTimeout), signal)
    }
  }
}

const messageOf = (error: unknown): string => {
  try {
    return error instanceof Error ? error.message : String(error)
  } catch {
    return 'it threw what cannot be printed'
  }
}

/** Nothing stops JavaScript: what ignores its signal is no longer waited for. */
const orAborted = (running: Promise<void>, signal: AbortSignal) =>
  new Promise<void>((resolve, reject) => {
    running.then(resolve, reject)
    signal.addEventListener('abort', () => setTimeout(() => reject(signal.reason), 2 * ABORT_GRACE_MS), { once: true })
  })

const wait = (milliseconds: number, signal: AbortSignal) =>
  new Promise<void>((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds)
    signal.addEventListener('abort', () => {
      clearTimeout(timer)
      reject(signal.reason)
    })
  })
