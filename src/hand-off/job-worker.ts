// The thread in which the layer's companion calls jobs, one at a time.
import { parentPort } from 'node:worker_threads'
import { importJob, isFinal, type WorkerCall, type WorkerOutcome } from './jobs.ts'

let controller = new AbortController()

parentPort?.on('message', (message: WorkerCall | 'abort') => {
  if (message === 'abort') controller.abort()
  else void call(message).then(outcome => parentPort?.postMessage(outcome))
})

const call = async (work: WorkerCall): Promise<WorkerOutcome> => {
  const { module, job, payload, idempotencyKey, awsRequestId, attempt } = work
  controller = new AbortController()
  const { signal } = controller
  try {
    const run = await importJob(module, job)
    await run(payload, { idempotencyKey, awsRequestId, attempt, signal })
    return {}
  } catch (error) {
    return { failure: { error: toSendable(error), isFinal: isFinal(error) } }
  }
}

/** Not every value can be sent to another thread. */
const toSendable = (error: unknown): Error => {
  try {
    const { message, stack = message } = error instanceof Error ? error : new Error(String(error))
    return Object.assign(new Error(message), { stack })
  } catch {
    return new Error('The job threw what cannot be printed.')
  }
}
