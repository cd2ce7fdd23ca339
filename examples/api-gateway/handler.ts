// POST /orders behind an API Gateway HTTP API: the customer has the answer as soon as the order is stored. The audit record
// and the analytics call come after it.
import middy from '@middy/core'
import type { APIGatewayProxyEventV2, APIGatewayProxyStructuredResultV2 } from 'aws-lambda'
import postInvoke, { onShutdown } from 'middy-post-invoke'
import { analytics, audit, type Order, orders } from './services.ts'

onShutdown(() => logged('close orders', orders.close), { name: 'close orders' })

export const handler = middy<APIGatewayProxyEventV2, APIGatewayProxyStructuredResultV2>()
  .use(postInvoke()) // first, so that it is the outermost
  .handler(async (event, context) => {
    const order = readOrder(event)
    if (!order) return json(400, { message: 'Expected an order with a product and a quantity' })

    const id = await orders.store(order)

    // Last in, first out: the audit record, deferred last, is written first.
    context.defer(
      ({ signal }) => logged('analytics', () => analytics.track('order placed', { id, ...order }, signal)),
      {
        name: 'analytics',
        timeout: 2_000,
      },
    )
    context.defer(() => logged('audit', () => audit.write({ action: 'order placed', id, by: callerOf(event) })), {
      name: 'audit',
    })

    return json(201, { id, ...order }, { location: `${event.rawPath}/${id}` })
  })

const readOrder = ({ body, isBase64Encoded }: APIGatewayProxyEventV2): Order | undefined => {
  try {
    const text = Buffer.from(body ?? '', isBase64Encoded ? 'base64' : 'utf8').toString()
    const { product, quantity } = JSON.parse(text)
    return typeof product === 'string' && Number.isInteger(quantity) && quantity > 0 ? { product, quantity } : undefined
  } catch {
    return undefined
  }
}

const callerOf = ({ requestContext }: APIGatewayProxyEventV2) => requestContext.http.sourceIp

const json = (
  statusCode: number,
  body: unknown,
  headers: Record<string, string> = {},
): APIGatewayProxyStructuredResultV2 => ({
  statusCode,
  headers: { 'content-type': 'application/json', ...headers },
  body: JSON.stringify(body),
})

/** Logs when a task or a hook begins and ends, as structured lines. */
const logged = async (task: string, work: () => Promise<void>) => {
  console.log(JSON.stringify({ task, state: 'started' }))
  try {
    await work()
  } finally {
    console.log(JSON.stringify({ task, state: 'ended' }))
  }
}
