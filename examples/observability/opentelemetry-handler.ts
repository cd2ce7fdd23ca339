// Spans are sent after the response, those of the tasks among them.

import middy from '@middy/core'
import { trace } from '@opentelemetry/api'
import { InMemorySpanExporter } from '@opentelemetry/sdk-trace-node'
import postInvoke from 'middy-post-invoke'
import { startTracing } from './opentelemetry.ts'
import { mails, type Order, orders } from './orders.ts'

/** In your function: `new OTLPTraceExporter()`. */
export const exporter = new InMemorySpanExporter()

const provider = startTracing(exporter)
const tracer = trace.getTracer('orders')

export const handler = middy<Order>()
  .use(postInvoke())
  .handler((order, context) =>
    tracer.startActiveSpan('place order', async span => {
      try {
        context.defer(() => provider.forceFlush(), { name: 'flush' }) // deferred first: it runs last
        await orders.place(order)
        context.defer(
          ({ signal }) =>
            tracer.startActiveSpan('send', send => mails.send(order, { signal }).finally(() => send.end())),
          { name: 'mail' },
        )
        return { placed: order.id }
      } finally {
        span.end()
      }
    }),
  )
