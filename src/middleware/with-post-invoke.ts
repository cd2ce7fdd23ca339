import type { Handler, Context as LambdaContext } from 'aws-lambda'
import { PostInvokeError, unexpected } from '../errors.ts'
import { type Context, createOpener } from './opener.ts'
import type { Options } from './options.ts'
import { isFunction } from './waits.ts'

/**
 * `postInvoke()` for a handler without Middy: what it defers runs after the response has left. The context gets `defer`.
 *
 * A streamed handler, with its `responseStream`, is wrapped before or after `awslambda.streamifyResponse`.
 *
 * @param handler - Returns its answer or a promise of it. One that takes a callback fails with `ERR_INVALID_HANDLER`.
 * @param options - Those of `postInvoke()`.
 * @returns the handler, for Lambda.
 * @throws PostInvokeError `ERR_INVALID_HANDLER` for what is no function, `ERR_INVALID_VARIABLE` for a wrong environment
 * variable; TypeError for a wrong option.
 *
 * @example
 * ```ts
 * import type { APIGatewayProxyEventV2 } from 'aws-lambda'
 * import { withPostInvoke } from 'middy-post-invoke/handler'
 *
 * export const handler = withPostInvoke(async (event: APIGatewayProxyEventV2, context) => {
 *   const order = await placeOrder(event)
 *   context.defer(({ signal }) => analytics.track('order', order, { signal }))
 *   return { statusCode: 201, body: JSON.stringify(order) }
 * })
 * ```
 */
export function withPostInvoke<Event, Result>(
  handler: (event: Event, context: Context) => Promise<Result> | Result,
  options?: Options,
): (event: Event, context: LambdaContext) => Promise<Result>
/**
 * The same for a streamed handler, before or after `awslambda.streamifyResponse`.
 *
 * @param handler - Writes its answer to the stream.
 * @param options - Those of `postInvoke()`.
 * @returns the handler, for Lambda, with the mark of `streamifyResponse` if it had one.
 */
export function withPostInvoke<Event, Result>(
  handler: (event: Event, responseStream: awslambda.HttpResponseStream, context: Context) => Promise<Result> | Result,
  options?: Options,
): (event: Event, responseStream: awslambda.HttpResponseStream, context: LambdaContext) => Promise<Result>
/**
 * The same for what is typed as a `Handler` of 'aws-lambda'. It must not use the callback.
 *
 * @param handler - Returns its answer or a promise of it.
 * @param options - Those of `postInvoke()`.
 * @returns the handler, for Lambda.
 */
export function withPostInvoke<Event, Result>(
  handler: Handler<Event, Result>,
  options?: Options,
): (event: Event, context: LambdaContext) => Promise<Result>
export function withPostInvoke(
  handler: (...args: any[]) => unknown,
  options?: Options,
): (...args: any[]) => Promise<any> {
  if (!isFunction(handler)) {
    throw unexpected('ERR_INVALID_HANDLER', 'a handler to wrap', handler)
  }
  const open = createOpener(options)
  // No parameters to count: one with three would be taken for a callback's.
  async function wrapped(...args: any[]): Promise<unknown> {
    const [event, second, third] = args
    const isStreamed = isFunction(second?.write)
    const context = (isStreamed ? third : second) ?? {}
    const request = { context, error: undefined as unknown }
    const opened = open(request)
    try {
      const result = isStreamed ? handler(event, second, context) : handler(event, context)
      if (result === undefined && !isStreamed && handler.length > 2) {
        throw new PostInvokeError(
          'ERR_INVALID_HANDLER',
          'Expected a handler that returns a promise, got one that takes a callback.',
        )
      }
      return await result
    } catch (error) {
      request.error = error
      opened.fail()
      throw error
    } finally {
      const before = opened.end()
      if (before) await before
    }
  }
  // What streamifyResponse has noted on it, and what else stands there.
  return Object.assign(wrapped, handler)
}
