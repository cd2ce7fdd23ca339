import { PostInvokeError } from '../errors.ts'
import { currentInvocation } from './shared.ts'
import type { Defer } from './task.ts'

/**
 * `context.defer()` for code that has no context at hand: a library, a helper many calls down. It belongs to the
 * invocation in which it is called, also with several side by side, and never to a later one: a callback left over from
 * an invocation that has settled gets an error.
 *
 * @param task - A function, called once the response has left, or a promise of work already under way.
 * @param options - `name` for log lines, `on` for the outcome after which it runs, `timeout` in milliseconds.
 * @throws PostInvokeError with code `ERR_INVALID_TASK` or `ERR_NO_INVOCATION`.
 *
 * @example
 * ```ts
 * import { defer } from 'middy-post-invoke'
 *
 * export const track = (event: string) => {
 *   defer(({ signal }) => fetch(collector, { method: 'POST', body: event, signal }), { name: 'track' })
 * }
 * ```
 */
export const defer: Defer = (task, options) => {
  const invocation = currentInvocation()
  if (!invocation) {
    throw new PostInvokeError(
      'ERR_NO_INVOCATION',
      'Expected defer() to be called inside an invocation of a handler with the postInvoke() middleware, got a call outside of any. Call it in the handler, after `.use(postInvoke())`.',
    )
  }
  invocation.defer(task, options)
}
