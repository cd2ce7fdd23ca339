/**
 * What went wrong, as {@link PostInvokeError}'s `code`.
 */
export type PostInvokeErrorCode =
  /** An environment variable has a value that is not allowed. */
  | 'ERR_INVALID_VARIABLE'
  /** `defer()` got something that is no task, or options that are none. */
  | 'ERR_INVALID_TASK'
  /** `defer()` was called where no invocation is open, or after its invocation has settled. */
  | 'ERR_NO_INVOCATION'
  /** `withPostInvoke()` got something that is no handler, or one that takes a callback. */
  | 'ERR_INVALID_HANDLER'
  /** No companion can hold the environment and `withoutCompanion` is `'throw'`. */
  | 'ERR_NO_COMPANION'
  /** A task did not end within its `timeout`. */
  | 'ERR_TASK_TIMEOUT'
  /** A task did not start, or end, in time for the function's deadline. */
  | 'ERR_TASK_DEADLINE'
  /** `onShutdown()` or `resource()` got something that it cannot run or make. */
  | 'ERR_INVALID_HOOK'
  /** A shutdown hook did not end within its `timeout`, or within the shutdown. */
  | 'ERR_SHUTDOWN_TIMEOUT'
  /** The environment ends before the invocation, or a task of it, has. */
  | 'ERR_SHUTDOWN'
  /** `handOff()` got something that cannot be handed off, or options that are none. */
  | 'ERR_INVALID_HAND_OFF'
  /** Handed-off work cannot be written to the spool. */
  | 'ERR_SPOOL'
  /** Handed-off work has to run in the function's process, which has not imported what runs it. */
  | 'ERR_NO_RUNNER'
  /** There is a queue for handed-off work, but no client for it. */
  | 'ERR_NO_SQS_CLIENT'

/**
 * An error of this package; wrong options of the middleware are a TypeError. `code` is stable: switch on it, not on the message.
 *
 * @example
 * ```ts
 * import { PostInvokeError } from 'middy-post-invoke'
 *
 * context.defer(async ({ signal }) => {
 *   await send({ signal }).catch(error => {
 *     if (error instanceof PostInvokeError && error.code === 'ERR_TASK_DEADLINE') return keepForLater()
 *     throw error
 *   })
 * })
 * ```
 */
export class PostInvokeError extends Error {
  /** `'PostInvokeError'`, for code that has another copy of the class. */
  override readonly name = 'PostInvokeError'
  /** Which error it is. */
  declare readonly code: PostInvokeErrorCode
  /** Whose error it is, as Middy's own errors say it, and in `data` what was given where that was wrong. */
  declare readonly cause: { readonly package: 'middy-post-invoke'; readonly data?: unknown }

  constructor(code: PostInvokeErrorCode, message: string, data?: unknown) {
    super(message, { cause: { package: 'middy-post-invoke', ...(data !== undefined && { data }) } })
    this.code = code
  }
}
