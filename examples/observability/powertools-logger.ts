// The Logger of Powertools for AWS Lambda writes the lines of this package too, with its own keys on each.
import { Logger } from '@aws-lambda-powertools/logger'
import middy from '@middy/core'
import postInvoke from 'middy-post-invoke'
import { mails, type Order, orders } from './orders.ts'

const logger = new Logger({ serviceName: 'orders' })

export const handler = middy<Order>()
  .use(postInvoke({ logger }))
  .handler(async (order, context) => {
    await orders.place(order)
    context.defer(({ signal }) => mails.send(order, { signal }), { name: 'mail' })
    return { placed: order.id }
  })
