// Keeps what could not be done: a task that failed goes to a queue, from which it can be tried again.
import { SendMessageCommand, SQSClient } from '@aws-sdk/client-sqs'
import middy from '@middy/core'
import postInvoke from 'middy-post-invoke'

const { QUEUE_URL = '', MAIL_URL = '' } = process.env
const queue = new SQSClient({ maxAttempts: 2 })

const sendMail = async (to: string, signal: AbortSignal) => {
  const { ok, status } = await fetch(MAIL_URL, { method: 'POST', body: to, signal })
  if (!ok) throw new Error(`The mail service answered ${status}`)
}

const mailLater = (to: string) =>
  queue.send(new SendMessageCommand({ QueueUrl: QUEUE_URL, MessageBody: JSON.stringify({ mail: to }) }))

export const handler = middy<{ to: string }>()
  .use(postInvoke({ taskTimeout: 3_000 }))
  .handler(async ({ to }, context) => {
    context.defer(
      async ({ signal }) => {
        try {
          await sendMail(to, signal)
        } catch {
          await mailLater(to) // 100 ms are left after an abort: enough for one call
        }
      },
      { name: 'mail' },
    )
    return { statusCode: 202 }
  })
