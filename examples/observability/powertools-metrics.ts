// The Metrics of Powertools for AWS Lambda, published after the response, with what the tasks have added.
import { Metrics, MetricUnit } from '@aws-lambda-powertools/metrics'
import middy from '@middy/core'
import postInvoke from 'middy-post-invoke'
import { mails, type Order, orders } from './orders.ts'

const metrics = new Metrics({ namespace: 'shop', serviceName: 'orders' })

export const handler = middy<Order>()
  .use(postInvoke())
  .handler(async (order, context) => {
    context.defer(() => metrics.publishStoredMetrics(), { name: 'metrics' }) // deferred first: it runs last
    await orders.place(order)
    metrics.addMetric('OrdersPlaced', MetricUnit.Count, 1)
    context.defer(
      async ({ signal }) => {
        await mails.send(order, { signal })
        metrics.addMetric('MailsSent', MetricUnit.Count, 1)
      },
      { name: 'mail' },
    )
    return { placed: order.id }
  })
