// The thread in which jobs are called, one at a time. The build makes a text of it, which a thread is started with: a
// bundler that takes the runner into a function would not take a second file along.
import { parentPort } from 'node:worker_threads'
import { findJob, isFinal, toPlainError, type WorkerCall, type WorkerOutcome } from './find-job.ts'

let controller = new AbortController()

parentPort?.on('message', (message: WorkerCall | 'abort') => {
  if (message === 'abort') controller.abort()
  else void call(message).then(outcome => parentPort?.postMessage(outcome))
})

const call = async (work: WorkerCall): Promise<WorkerOutcome> => {
  const { file, url, job, payload, idempotencyKey, awsRequestId, tenantId, attempt } = work
  controller = new AbortController()
  const { signal } = controller
  try {
    const run = findJob(await import(url), job, file)
    await run(payload, { idempotencyKey, awsRequestId, tenantId, attempt, signal })
    return {}
  } catch (error) {
    return { failure: { error: toPlainError(error), isFinal: isFinal(error) } }
  }
}
