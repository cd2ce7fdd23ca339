// A queue: what a message asks for is done before the answer, because the answer deletes the message. What may be lost
// comes behind it.
import middy from '@middy/core'
import type { SQSBatchResponse, SQSEvent } from 'aws-lambda'
import postInvoke from 'middy-post-invoke'
import { metrics, placeOrder } from '../readme/shop.ts'

export const handler = middy<SQSEvent, SQSBatchResponse>()
  .use(postInvoke({ concurrency: 10 }))
  .handler(async ({ Records }, context) => {
    const batchItemFailures: SQSBatchResponse['batchItemFailures'] = []
    for (const { messageId, body } of Records) {
      try {
        await placeOrder({ body })
        context.defer(() => metrics.count('placed'), { name: 'count' })
      } catch {
        batchItemFailures.push({ itemIdentifier: messageId })
      }
    }
    return { batchItemFailures }
  })
