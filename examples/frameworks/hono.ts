import { Hono } from 'hono'
import { handle } from 'hono/aws-lambda'
import { defer, withExecutionContext, withPostInvoke } from 'middy-post-invoke/handler'
import { analytics, metrics, type Order } from '../readme/shop.ts'

const app = new Hono()

app.post('/orders', async c => {
  const order = await c.req.json<Order>()
  c.executionCtx.waitUntil(metrics.count('orders'))
  defer(({ signal }) => analytics.track('order', order, { signal }), { name: 'analytics' })
  return c.json(order, 201)
})

export const handler = withPostInvoke(handle(withExecutionContext(app)))
