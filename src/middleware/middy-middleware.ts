import type middy from '@middy/core'
import type { OpenInvocation } from './function-process.ts'
import { type Context, createOpen, type Options } from './post-invoke.ts'

/**
 * Runs what the handler deferred after the response has left. Use it first, so that it is the outermost.
 *
 * @param options - How the tasks are run.
 * @returns the middleware, for `.use()`. It puts `defer` on the context.
 * @throws TypeError for a wrong option, `PostInvokeError` (`ERR_INVALID_VARIABLE`) for a wrong environment variable.
 *
 * @example
 * ```ts
 * import middy from '@middy/core'
 * import type { APIGatewayProxyEventV2, APIGatewayProxyStructuredResultV2 } from 'aws-lambda'
 * import postInvoke from 'middy-post-invoke'
 *
 * export const handler = middy<APIGatewayProxyEventV2, APIGatewayProxyStructuredResultV2>()
 *   .use(postInvoke())
 *   .handler(async (event, context) => {
 *     const order = await placeOrder(event)
 *     context.defer(({ signal }) => analytics.track('order', order, { signal }))
 *     return { statusCode: 201, body: JSON.stringify(order) }
 *   })
 * ```
 */
const postInvoke = (options: Options = {}): middy.MiddlewareObj<unknown, any, Error, Context> => {
  const open = createOpen(options)
  // Invocations run side by side on Managed Instances: nothing of one may stand here.
  // Hence the request carries it, and no WeakMap: all that hangs off one lives on until V8 collects the whole heap.
  const postInvokeMiddlewareBefore = (request: middy.Request<unknown, any, Error, Context>): void => {
    if (carriedBy(request)[OPEN]) return // used twice on one handler: the first is enough
    const opened = open(request)
    carriedBy(request)[OPEN] = opened
    if (opened.needsEnd) watch(request)
  }

  const postInvokeMiddlewareAfter = (request: middy.Request<unknown, any, Error, Context>): Promise<void> | undefined =>
    finish(request)

  const postInvokeMiddlewareOnError = (
    request: middy.Request<unknown, any, Error, Context>,
  ): Promise<void> | undefined => finish(request)

  // onError runs also when a `before` ahead of ours threw.
  const finish = (request: { internal: object }): Promise<void> | undefined => carriedBy(request)[OPEN]?.end()

  /**
   * A value returned by another middleware's hook ends the request without `after` or `onError` of ours. Middy assigns it
   * to `response`, and awaits what stands there.
   */
  const watch = (request: middy.Request<unknown, any, Error, Context>) => {
    let { response } = request
    Object.defineProperty(request, 'response', {
      configurable: true,
      enumerable: true,
      get: () => response,
      set(value) {
        response = value
        if (!('earlyResponse' in request)) return
        const before = finish(request)
        if (before) response = before.then(() => value)
      },
    })
  }

  return {
    before: postInvokeMiddlewareBefore,
    after: postInvokeMiddlewareAfter,
    onError: postInvokeMiddlewareOnError,
  }
}

const OPEN = Symbol.for('middy-post-invoke/open')

const carriedBy = ({ internal }: { internal: object }) => internal as Record<symbol, OpenInvocation | undefined>

export default postInvoke
