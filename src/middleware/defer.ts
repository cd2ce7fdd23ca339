import { PostInvokeError } from '../errors.ts'
import { createLog, type Log } from '../log.ts'
import type { Defer, DeferOptions, Task } from './defer-input.ts'
import { existingProcess, invocationFinder } from './process.ts'
import { waitUntilIn } from './wait-until.ts'

const currentInvocation = /* @__PURE__ */ invocationFinder()

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
export const defer: Defer = (task: Task, options?: DeferOptions) => {
  const invocation = currentInvocation()
  if (!invocation) {
    throw new PostInvokeError(
      'ERR_NO_INVOCATION',
      'Expected defer() in an invocation behind postInvoke(), got a call outside.',
    )
  }
  invocation.defer(task as () => unknown, options)
}

/**
 * Defers a promise in the invocation in which this is called: the function that libraries take as an option of this name.
 * It never throws. Outside of an invocation a warning is logged, once, and nothing waits for the promise.
 *
 * @param promise - Of work already under way.
 *
 * @example
 * ```ts
 * import { waitUntil } from 'middy-post-invoke'
 *
 * waitUntil(metrics.count('orders')) // or what a library does with it: new PostHog(key, { waitUntil })
 * ```
 */
export const waitUntil = (promise: Promise<unknown>): void => {
  const invocation = currentInvocation()
  if (invocation) waitUntilIn(invocation, promise)
  else warnOutside()
}

let logOutside: Log | undefined

/** With a log of its own where there is no postInvoke(): nothing is to be held then. */
function warnOutside(): void {
  try {
    logOutside ??= existingProcess()?.log ?? createLog()
    logOutside.warnOnce('WARN_WAIT_UNTIL', 'waitUntil() was called outside of an invocation')
  } catch {} // a variable with a wrong value
}
