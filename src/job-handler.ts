/**
 * The function behind the overflow queue: runs handed-off work that another function could not do in time.
 *
 * @packageDocumentation
 */
import type { Context, SQSBatchResponse, SQSEvent, SQSRecord } from 'aws-lambda'
import { parseEntry, type RequestWork } from './hand-off/entry.ts'
import { findJob, toPlainError } from './hand-off/find-job.ts'
import { createLog } from './log.ts'

/** How long before the function's deadline work is aborted: what is not done comes again. */
const MARGIN_MS = 500

/**
 * A handler for the overflow queue. What fails is reported message by message, so turn on `ReportBatchItemFailures` for
 * the event source: the queue delivers it again, and no other. Of a FIFO queue, nothing after a failure is tried.
 *
 * @param jobs - The jobs module, as the functions have it that hand off.
 *
 * @example
 * ```ts
 * import { createJobHandler } from 'middy-post-invoke/job-handler'
 *
 * const jobs = { sendMail: async (mail: { to: string }) => console.log(mail.to) }
 *
 * export const handler = createJobHandler(jobs)
 * ```
 */
export const createJobHandler = (jobs: object): ((event: SQSEvent, context: Context) => Promise<SQSBatchResponse>) => {
  const log = createLog()

  const run = async (record: SQSRecord, signal: AbortSignal): Promise<void> => {
    const entry = parseEntry(record.body)
    if (typeof entry === 'string') throw new Error(`Expected handed-off work, got a message that is none: ${entry}`)
    const { work } = entry
    if (work.kind === 'request') return send(work, entry.key, signal)
    const job = findJob(jobs as Readonly<Record<string, unknown>>, work.job, 'createJobHandler()')
    const { key: idempotencyKey, requestId: awsRequestId, tenantId } = entry
    const attempt = Number(record.attributes.ApproximateReceiveCount)
    const limit = work.timeout === undefined ? signal : AbortSignal.any([signal, AbortSignal.timeout(work.timeout)])
    await orAborted(job(work.payload, { idempotencyKey, awsRequestId, tenantId, attempt, signal: limit }), limit)
  }

  /** @returns whether it is done. */
  const tryRecord = async (record: SQSRecord, signal: AbortSignal): Promise<boolean> => {
    try {
      signal.throwIfAborted()
      await run(record, signal)
      return true
    } catch (error) {
      log.error(
        `message ${record.messageId} of handed-off work failed; the queue delivers it again:`,
        toPlainError(error),
      )
      return false
    }
  }

  return async ({ Records }, context) => {
    const controller = new AbortController()
    const timer = setTimeout(
      () => controller.abort(new Error('The function runs into its timeout.')),
      Math.max(0, context.getRemainingTimeInMillis() - MARGIN_MS),
    )
    try {
      const failed = isFifo(Records)
        ? await inOrder(Records, record => tryRecord(record, controller.signal))
        : await sideBySide(Records, record => tryRecord(record, controller.signal))
      return { batchItemFailures: failed.map(({ messageId }) => ({ itemIdentifier: messageId })) }
    } finally {
      clearTimeout(timer)
    }
  }
}

type Attempt = (record: SQSRecord) => Promise<boolean>

const sideBySide = async (records: readonly SQSRecord[], attempt: Attempt): Promise<SQSRecord[]> => {
  const done = await Promise.all(records.map(attempt))
  return records.filter((_, index) => !done[index])
}

/** @returns the first that failed, and all after it. */
const inOrder = async (records: readonly SQSRecord[], attempt: Attempt): Promise<SQSRecord[]> => {
  for (const [index, record] of records.entries()) if (!(await attempt(record))) return records.slice(index)
  return []
}

const isFifo = ([first]: readonly SQSRecord[]) => first?.eventSourceARN.endsWith('.fifo') === true

type RunnerModule = typeof import('./hand-off/runner.ts') & { default?: typeof import('./hand-off/runner.ts') }

/** The layer's own file: undici comes with this package, and is loaded with the first request. */
const send = async (work: RequestWork, key: string, signal: AbortSignal): Promise<void> => {
  const loaded = (await import('./layer/post-invoke/runner.cjs' as string)) as RunnerModule
  // A bundler that makes a file of its own of it leaves CommonJS its default alone.
  const sender = new (loaded.default ?? loaded).RequestSender()
  try {
    await sender.send(work, key, signal)
  } finally {
    await sender.close()
  }
}

/** Nothing stops JavaScript: what ignores its signal is no longer waited for. */
const orAborted = (running: unknown, signal: AbortSignal) =>
  new Promise<void>((resolve, reject) => {
    Promise.resolve(running).then(() => resolve(), reject)
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
