// Calls the functions of the jobs module, once, in this process or in a worker thread.

import { pathToFileURL } from 'node:url'
import type { Worker } from 'node:worker_threads'
import { builtIn } from '../built-in.ts'
import type { JobWork } from './entry.ts'
import { type CallOptions, findJob, isFinal, toPlainError, type WorkerCall, type WorkerOutcome } from './find-job.ts'
import workerText from './job-worker.ts?text'

/** Rejects with an error that can be logged as it is. */
export type CallJob = (work: JobWork, options: CallOptions) => Promise<void>

export const callInThisProcess: CallJob = (work, options) =>
  withinItsTime(work, options.signal, async signal => {
    const { file, idempotencyKey, awsRequestId, tenantId, attempt } = options
    try {
      const job = findJob(await import(pathToFileURL(file).href), work.job, file)
      await job(work.payload, { idempotencyKey, awsRequestId, tenantId, attempt, signal })
    } catch (error) {
      throw Object.assign(toPlainError(error), { isFinal: isFinal(error) })
    }
  })

/** One is kept for the next job: a thread starts in 15 ms, and the module it has imported may take longer. */
let idle: Worker | undefined

/**
 * In a thread. A job that burns CPU can be ended there, and one that ends its process, fills its memory or leaves an error
 * uncaught ends its thread. The companion is an extension, and for Lambda the end of an extension is a crash; the end of
 * the function's process is one as well.
 */
export const callInWorker: CallJob = (work, options) =>
  withinItsTime(work, options.signal, async signal => {
    const { file, idempotencyKey, awsRequestId, tenantId, attempt } = options
    const worker = takeWorker()
    const ended = Promise.withResolvers<void>()
    const onMessage = ({ failure }: WorkerOutcome) => {
      if (!failure) ended.resolve()
      else ended.reject(Object.assign(failure.error, { isFinal: failure.isFinal }))
    }
    const onError = (error: unknown) => ended.reject(toPlainError(error))
    const onExit = (code: number) => ended.reject(new Error(`the job ended its thread with code ${code}`))
    const onAbort = () => {
      worker.postMessage('abort')
      setTimeout(() => ended.reject(signal.reason), ABORT_GRACE_MS)
    }
    worker.on('message', onMessage).on('error', onError).on('exit', onExit)
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      const url = pathToFileURL(file).href
      worker.postMessage({ ...work, file, url, idempotencyKey, awsRequestId, tenantId, attempt } satisfies WorkerCall)
      await ended.promise
    } catch (error) {
      await worker.terminate()
      throw error
    } finally {
      signal.removeEventListener('abort', onAbort)
      worker.off('message', onMessage).off('error', onError).off('exit', onExit)
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
  const { Worker } = builtIn('node:worker_threads')
  const worker: Worker = new Worker(workerText, {
    eval: true,
    // Node ends the thread at its limit with 16 MB to spare. Were more than that to survive one collection of the young
    // generation, which is larger by default, V8 would abort the process.
    resourceLimits: { maxOldGenerationSizeMb: heapMegabytes(), maxYoungGenerationSizeMb: 8 },
  })
  // What ends while it is idle is forgotten. And an error of a thread that nobody listens to would end this process.
  const forget = () => {
    if (idle === worker) idle = undefined
  }
  return worker.on('error', forget).on('exit', forget)
}

/** Half of the function's memory: a job that wants more ends its thread, before the kernel ends a process. */
const heapMegabytes = (): number => Math.max(64, Number(process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE ?? 512) / 2)

const keep = (worker: Worker) => {
  if (idle) return void worker.terminate()
  idle = worker
  worker.unref()
}

/** An aborted job has this long to clean up. */
const ABORT_GRACE_MS = 50

/** Nothing stops JavaScript: a job that ignores its signal is no longer waited for. */
const withinItsTime = async (
  { timeout }: JobWork,
  ofRun: AbortSignal,
  act: (signal: AbortSignal) => Promise<void>,
): Promise<void> => {
  const signal = timeout === undefined ? ofRun : AbortSignal.any([ofRun, AbortSignal.timeout(timeout)])
  signal.throwIfAborted()
  await new Promise<void>((resolve, reject) => {
    act(signal).then(resolve, reject)
    signal.addEventListener('abort', () => setTimeout(() => reject(signal.reason), 2 * ABORT_GRACE_MS), { once: true })
  })
}
