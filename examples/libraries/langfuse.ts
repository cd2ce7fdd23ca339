// Langfuse: spans are sent after the answer.
import { LangfuseSpanProcessor } from '@langfuse/otel'
import { startActiveObservation } from '@langfuse/tracing'
import { NodeTracerProvider } from '@opentelemetry/sdk-trace-node'
import { defer, withPostInvoke } from 'middy-post-invoke/handler'

const processor = new LangfuseSpanProcessor({
  publicKey: 'pk',
  secretKey: 'sk',
  baseUrl: process.env.SERVICES_URL ?? '',
})
new NodeTracerProvider({ spanProcessors: [processor] }).register()

const answer = () =>
  startActiveObservation('answer', span => {
    span.update({ input: 'tea?', output: 'tea' })
    return { statusCode: 201 }
  })

export const handler = withPostInvoke(async () => {
  defer(() => processor.forceFlush(), { name: 'langfuse' }) // deferred first: it runs last
  return answer()
})

export const otherwise = withPostInvoke(async () => answer())
