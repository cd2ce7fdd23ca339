import type middy from '@middy/core'
import { type Context, createOpener } from './opener.ts'
import type { Options } from './options.ts'
import { OPENED, type OpenedInvocation } from './process.ts'
import { watchProperty } from './runtime-client.ts'

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
const postInvoke = (options?: Options): middy.MiddlewareObj<unknown, any, Error, Context> => {
  const open = createOpener(options)

  function postInvokeMiddlewareBefore(request: Request): void {
    if (request.internal[OPENED]) return // used twice on one handler: the first is enough
    const opened = open(request)
    request.internal[OPENED] = opened
    if (opened.needsEnd) watchEnd(request, opened)
  }

  function postInvokeMiddlewareAfter(request: Request): Promise<void> | undefined {
    const before = request.internal[OPENED]?.end()
    // Middy awaits only an `instanceof Promise`, which others may have replaced. All else it takes for a response.
    return before && Promise.resolve(before)
  }

  // It runs also when a `before` ahead of ours threw: then nothing is open.
  function postInvokeMiddlewareOnError(request: Request): Promise<void> | undefined {
    request.internal[OPENED]?.fail()
    return postInvokeMiddlewareAfter(request)
  }

  return {
    before: postInvokeMiddlewareBefore,
    after: postInvokeMiddlewareAfter,
    onError: postInvokeMiddlewareOnError,
  }
}

/**
 * Invocations run side by side on Managed Instances: nothing of one may stand in the factory. The request carries it, and no
 * WeakMap: all that hangs off one lives on until V8 collects the whole heap.
 */
type Request = middy.Request<unknown, any, Error, Context, { [OPENED]?: OpenedInvocation }>

/**
 * The ends of a request that reach neither `after` nor `onError` of ours, seen by what Middy assigns. Only where the runtime
 * client tells no end, or where the answer has to wait for the tasks.
 *
 * - A hook of another middleware returns a value. Middy assigns it to `response` while `earlyResponse` is there, then reads
 *   `response` and awaits what it has read: once, and once more before, for its type, when a hook `onError` returned it.
 * - A hook `onError` of another middleware throws. Middy assigns to `error` for the second time, and rejects at once: no
 *   answer can be made to wait. But others assign to `error` too, so this end is a guess.
 */
function watchEnd(request: Request, opened: OpenedInvocation): void {
  let readsBeforeAnswer = 0
  let isReset = false
  let isInOnError = false

  watchProperty(request, 'response', onResponse, readResponse)
  watchProperty(request, 'error', onError)

  function readResponse(response: unknown) {
    const before = --readsBeforeAnswer === 0 && opened.end()
    return before ? before.then(() => response) : response
  }
  function onResponse(response: unknown) {
    isReset = response === undefined
    if (!('earlyResponse' in request)) return
    if (isInOnError) opened.fail()
    // Without a value the error is thrown all the same.
    if (isInOnError && isReset) opened.end(true)
    else readsBeforeAnswer = isInOnError ? 2 : 1
  }
  function onError() {
    readsBeforeAnswer = 0
    if (isInOnError) {
      opened.fail()
      opened.end(true)
    } else isInOnError = isReset // Middy resets `response` before it assigns what was thrown
  }
}

export default postInvoke
