// Sentry: events are sent after the answer.
import { captureException, createStackParser, createTransport, flush, initAndBind } from '@sentry/core'
import { flushIfServerless, nodeStackLineParser, ServerRuntimeClient } from '@sentry/core/server'
import { defer, withPostInvoke } from 'middy-post-invoke/handler'

const dsn = (process.env.SERVICES_URL ?? '').replace('://', '://key@')

initAndBind(ServerRuntimeClient, {
  dsn: `${dsn}/1`,
  integrations: [],
  stackParser: createStackParser(nodeStackLineParser()),
  transport: options =>
    createTransport(options, async ({ body }) => {
      const response = await fetch(options.url, { method: 'POST', body: body as string })
      return { statusCode: response.status }
    }),
})

const fails = () => void captureException(new Error('the mail could not be sent'))

export const handler = withPostInvoke(async () => {
  defer(() => flush(2_000), { name: 'sentry' })
  fails()
  return { statusCode: 201 }
})

export const otherwise = withPostInvoke(async () => {
  fails()
  return { statusCode: 201 }
})

/** As Sentry's own integrations of frameworks do it: before the answer. */
const flushes = async () => {
  fails()
  await flushIfServerless({ timeout: 60_000 })
  return { statusCode: 201 }
}
export const ownFlush = withPostInvoke(flushes)
/** Made as it is called: what it sets in the global scope is there for all. */
export const ownFlushWithGlobals = (...args: [unknown, any]) => withPostInvoke(flushes, { waitUntil: true })(...args)
