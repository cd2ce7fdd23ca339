// A span for each deferred task, linked to the span in which it was deferred. The task's own spans are its children.
import { AsyncLocalStorage } from 'node:async_hooks'
import { type TracingChannelSubscribers, tracingChannel } from 'node:diagnostics_channel'
import { type Context, type ContextManager, ROOT_CONTEXT, SpanStatusCode, trace } from '@opentelemetry/api'
import { BatchSpanProcessor, NodeTracerProvider, type SpanExporter } from '@opentelemetry/sdk-trace-node'
import type { TaskMessage } from 'middy-post-invoke'

const storage = new AsyncLocalStorage<Context>()

/** OpenTelemetry's own keeps its AsyncLocalStorage to itself. A channel needs it, to run a task in a context. */
const contextManager: ContextManager = {
  active: () => storage.getStore() ?? ROOT_CONTEXT,
  with: (context, fn, thisArg, ...args) => storage.run(context, () => fn.call(thisArg as never, ...args)),
  bind(context, target) {
    if (typeof target !== 'function') return target
    return ((...args: unknown[]) => storage.run(context, () => target(...args))) as typeof target
  },
  enable() {
    return this
  },
  disable() {
    storage.disable()
    return this
  },
}

/** Call it once, at init. */
export const startTracing = (exporter: SpanExporter): NodeTracerProvider => {
  const provider = new NodeTracerProvider({ spanProcessors: [new BatchSpanProcessor(exporter)] })
  provider.register({ contextManager })
  const tracer = provider.getTracer('middy-post-invoke')
  const task = tracingChannel<Context, TaskMessage>('middy-post-invoke:task')

  task.start.bindStore(storage, ({ name, awsRequestId, carried }) => {
    // Here that span is active which was when the task was deferred. It has ended by now: a link, and no parent.
    const invocation = trace.getActiveSpan()
    const span = tracer.startSpan(name, {
      root: true,
      links: invocation ? [{ context: invocation.spanContext() }] : [],
      attributes: { 'faas.invocation_id': awsRequestId, 'post_invoke.carried': carried },
    })
    return trace.setSpan(contextManager.active(), span)
  })

  const subscribers: Partial<TracingChannelSubscribers<TaskMessage>> = {
    asyncEnd({ status, error }) {
      const span = trace.getActiveSpan() // the task's: its subscribers run in its context
      if (status !== 'completed') {
        span?.recordException(error instanceof Error ? error : String(error))
        span?.setStatus({ code: SpanStatusCode.ERROR })
      }
      span?.end()
    },
  }
  task.subscribe(subscribers as TracingChannelSubscribers<TaskMessage>)
  return provider
}
