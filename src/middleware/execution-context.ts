import { invocationFinder } from './process.ts'
import { waitUntilIn } from './wait-until.ts'

const currentInvocation = /* @__PURE__ */ invocationFinder()

/** What frameworks of the web's `fetch(request, env, executionContext)` kind are given on other platforms. */
export type ExecutionContext = {
  /** Holds the environment until the promise has settled. */
  waitUntil(promise: Promise<unknown>): void
  /** Without a meaning on Lambda: it does nothing. */
  passThroughOnException(): void
  /** Empty on Lambda. */
  props: any
}

/**
 * Gives an app with `fetch(request, env, executionContext)` an execution context where the adapter for Lambda gives none, and
 * its request a `waitUntil`. What these are given is deferred: `c.executionCtx.waitUntil(promise)` of Hono,
 * `event.waitUntil(promise)` of h3 2 and Nitro 3, `request.waitUntil(promise)` of srvx 1.
 *
 * @param app - Wrapped for the adapter alone: routes are added to the app itself.
 * @returns the app, for the adapter.
 *
 * @example
 * ```ts
 * import { Hono } from 'hono'
 * import { handle } from 'hono/aws-lambda'
 * import { withExecutionContext, withPostInvoke } from 'middy-post-invoke/handler'
 *
 * const app = new Hono()
 * app.post('/orders', async c => {
 *   c.executionCtx.waitUntil(metrics.count('orders'))
 *   return c.json({ placed: true }, 201)
 * })
 *
 * export const handler = withPostInvoke(handle(withExecutionContext(app)))
 * ```
 */
export const withExecutionContext = <App extends { fetch: (...args: any[]) => unknown }>(app: App): App =>
  Object.create(app, {
    fetch: {
      enumerable: true, // adapters copy what they are given
      value: (request: Request, env: unknown, context: ExecutionContext | undefined = executionContext()) => {
        if (context && Object.isExtensible(request)) request.waitUntil ??= waitUntilOf(context)
        return app.fetch(request, env, context)
      },
    },
  })

/** Made here and not where it is assigned: see runTask() in deferred-task.ts. */
const waitUntilOf =
  (context: ExecutionContext): ExecutionContext['waitUntil'] =>
  promise =>
    context.waitUntil(promise)

type Request = { waitUntil?: ExecutionContext['waitUntil'] }

/** Of the invocation in which this is called; without one there is none, and the framework says so. */
function executionContext(): ExecutionContext | undefined {
  const invocation = currentInvocation()
  return (
    invocation && { waitUntil: promise => waitUntilIn(invocation, promise), passThroughOnException() {}, props: {} }
  )
}
