import middy from '@middy/core'
import type { APIGatewayProxyEventV2, APIGatewayProxyHandlerV2, APIGatewayProxyStructuredResultV2 } from 'aws-lambda'
import postInvoke, { asLambdaHandler, type Context } from 'middy-post-invoke'
import { analytics, type Order, placeOrder } from './shop.ts'

type Event = APIGatewayProxyEventV2
type Result = APIGatewayProxyStructuredResultV2

const createOrder = async (event: Event, context: Context): Promise<Result> => {
  const order = await placeOrder(event)
  trackLater(order, context)
  return { statusCode: 201, body: JSON.stringify(order) }
}

const trackLater = (order: Order, { defer }: Context) => {
  defer(({ signal }) => analytics.track('order', order, { signal }))
}

export const handler = middy<Event, Result>().use(postInvoke()).handler(createOrder)

// Only for code that asks for the type of 'aws-lambda', and for tests with a context of their own:
export const plainHandler: APIGatewayProxyHandlerV2 = asLambdaHandler(handler)
