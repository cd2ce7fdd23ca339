// What holding has cost, as CloudWatch metrics.
import middy from '@middy/core'
import postInvoke from 'middy-post-invoke'
import { writeHoldMetrics } from 'middy-post-invoke/metrics'
import { mails, type Order, orders } from './orders.ts'

writeHoldMetrics({ namespace: 'shop', dimensions: { service: 'orders', stage: 'production' } })

export const handler = middy<Order>()
  .use(postInvoke())
  .handler(async (order, context) => {
    await orders.place(order)
    context.defer(({ signal }) => mails.send(order, { signal }), { name: 'mail' })
    return { placed: order.id }
  })
