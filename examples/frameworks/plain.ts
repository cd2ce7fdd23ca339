import type { APIGatewayProxyEventV2 } from 'aws-lambda'
import { withPostInvoke } from 'middy-post-invoke/handler'
import { analytics, placeOrder } from '../readme/shop.ts'

export const handler = withPostInvoke(async (event: APIGatewayProxyEventV2, context) => {
  const order = await placeOrder(event)
  context.defer(({ signal }) => analytics.track('order', order, { signal })) // after the response
  return { statusCode: 201, body: JSON.stringify(order) }
})
