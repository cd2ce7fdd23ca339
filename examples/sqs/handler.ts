// Orders from a queue. One that cannot be stored goes back to the queue by itself, not with its whole batch. Each that was
// stored is reported to the analytics service after the batch has been answered: what is slow or fails there makes no
// message visible again.
import middy from '@middy/core'
import type { SQSBatchItemFailure, SQSBatchResponse, SQSEvent } from 'aws-lambda'
import postInvoke from 'middy-post-invoke'

// A wrong one fails init, not the first batch.
const orders = new URL(process.env.ORDERS_URL ?? '')
const analytics = new URL(process.env.ANALYTICS_URL ?? '')

export const handler = middy<SQSEvent, SQSBatchResponse>()
  .use(postInvoke({ order: 'fifo', concurrency: 5 })) // a batch has up to ten reports
  .handler(async ({ Records }, context) => {
    const batchItemFailures: SQSBatchItemFailure[] = []
    await Promise.all(
      Records.map(async ({ messageId, body }) => {
        try {
          await send('PUT', new URL(messageId, orders), body)
          context.defer(({ signal }) => send('POST', analytics, body, signal), {
            name: `analytics of ${messageId}`,
            timeout: 5_000,
          })
        } catch (error) {
          console.error(`The order ${messageId} goes back to the queue:`, error)
          batchItemFailures.push({ itemIdentifier: messageId })
        }
      }),
    )
    return { batchItemFailures }
  })

const send = async (method: string, url: URL, body: string, signal = AbortSignal.timeout(5_000)) => {
  const { ok, status } = await fetch(url, { method, body, signal })
  if (!ok) throw new Error(`${method} ${url} was answered with ${status}`)
}
