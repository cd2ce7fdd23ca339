// POST /orders: the customer has the answer at once. The analytics service is told of the order after it.
import { randomUUID } from 'node:crypto'
import middy from '@middy/core'
import type { APIGatewayProxyEventV2, APIGatewayProxyStructuredResultV2 } from 'aws-lambda'
import postInvoke from 'middy-post-invoke'

type Order = { readonly id: string; readonly product: string }

/** A wrong one fails init, not the first order. */
const analytics = new URL(process.env.ANALYTICS_URL ?? '')

export const handler = middy<APIGatewayProxyEventV2, APIGatewayProxyStructuredResultV2>()
  .use(postInvoke()) // first, so that it is the outermost
  .handler(async (event, context) => {
    const { product } = JSON.parse(event.body ?? '{}')
    const order = { id: randomUUID(), product }
    context.defer(({ signal }) => track(order, signal), { name: 'analytics', timeout: 5_000 })
    return { statusCode: 201, body: JSON.stringify(order) }
  })

const track = async (order: Order, signal: AbortSignal) => {
  const { ok, status } = await fetch(analytics, { method: 'POST', body: JSON.stringify(order), signal })
  if (!ok) throw new Error(`The analytics service answered ${status}`)
}
