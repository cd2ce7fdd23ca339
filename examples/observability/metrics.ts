// What holding has cost, as CloudWatch metrics.
import middy from '@middy/core'
import postInvoke from 'middy-post-invoke'
import { mails, type Order, orders } from './orders.ts'

export const handler = middy<Order>()
  // #region middleware
  .use(postInvoke({ metrics: { namespace: 'shop', dimensions: { service: 'orders', stage: 'production' } } }))
  // #endregion
  .handler(async (order, context) => {
    await orders.place(order)
    context.defer(({ signal }) => mails.send(order, { signal }), { name: 'mail' })
    return { placed: order.id }
  })
