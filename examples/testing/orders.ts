import middy from '@middy/core'
import postInvoke, { onShutdown } from 'middy-post-invoke'

type Order = { email: string }

export const mailer = {
  send: async (email: string): Promise<void> => void email,
  close: async (): Promise<void> => {},
}

onShutdown(() => mailer.close(), { name: 'mailer' })

export const handler = middy<Order, { statusCode: number }>()
  .use(postInvoke())
  .handler(async ({ email }, context) => {
    context.defer(() => mailer.send(email), { name: 'mail' })
    return { statusCode: 201 }
  })
