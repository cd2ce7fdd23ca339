import middy from '@middy/core'
import type { APIGatewayProxyEventV2, APIGatewayProxyStructuredResultV2 } from 'aws-lambda'
import postInvoke from 'middy-post-invoke'
import { analytics, placeOrder } from './shop.ts'

// #region handler
export const handler = middy<APIGatewayProxyEventV2, APIGatewayProxyStructuredResultV2>()
  .use(postInvoke()) // first, so that it is the outermost
  .handler(async (event, context) => {
    const order = await placeOrder(event)
    context.defer(({ signal }) => analytics.track('order', order, { signal })) // after the response
    return { statusCode: 201, body: JSON.stringify(order) }
  })
// #endregion
