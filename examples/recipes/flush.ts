// Sends what was collected during the invocation, once the caller has its answer.
import { Metrics, MetricUnit } from '@aws-lambda-powertools/metrics'
import middy from '@middy/core'
import postInvoke, { type Context } from 'middy-post-invoke'

const metrics = new Metrics({ namespace: 'shop', serviceName: 'orders' })

/** Deferred first, so it runs last: what the other tasks have counted is sent too. */
const flushed: middy.MiddlewareObj<unknown, unknown, Error, Context> = {
  before: ({ context }) => {
    context.defer(() => metrics.publishStoredMetrics(), { name: 'flush metrics' })
  },
}

export const handler = middy<unknown, unknown>()
  .use(postInvoke())
  .use(flushed)
  .handler(async (_event, context) => {
    metrics.addMetric('called', MetricUnit.Count, 1)
    context.defer(() => metrics.addMetric('followed up', MetricUnit.Count, 1), { name: 'follow up' })
    return { statusCode: 204 }
  })
