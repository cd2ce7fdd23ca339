import middy from '@middy/core'
import type { APIGatewayProxyEventV2, APIGatewayProxyStructuredResultV2 } from 'aws-lambda'
import postInvoke from 'middy-post-invoke'
import { audit, metrics, placeOrder } from '../readme/shop.ts'

type Event = APIGatewayProxyEventV2
type Result = APIGatewayProxyStructuredResultV2

// #region before
export const before = middy<Event, Result>().handler(async event => {
  const order = await placeOrder(event)
  await Promise.all([audit.write({ order }), metrics.count('orders')]) // the caller waits
  return { statusCode: 201, body: JSON.stringify(order) }
})
// #endregion

// #region after
export const after = middy<Event, Result>()
  .use(postInvoke({ concurrency: 2 })) // side by side, as Promise.all had them
  .handler(async (event, context) => {
    const order = await placeOrder(event)
    context.defer(() => audit.write({ order }), { name: 'audit' })
    context.defer(() => metrics.count('orders'), { name: 'metrics' })
    return { statusCode: 201, body: JSON.stringify(order) }
  })
// #endregion
