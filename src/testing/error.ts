/** What went wrong in a test: see {@link TestingError}. */
export type TestingErrorCode =
  /** An option, a handler or a name that cannot be. */
  | 'OPTION_INVALID'
  /** The handler gave no answer within the function's timeout. */
  | 'HANDLER_TIMEOUT'
  /** Tasks have failed, or had no time. `errors` has what they threw. */
  | 'TASK_FAILED'
  /** The deadline has passed, and tasks are still under way: they block the event loop. */
  | 'NOT_SETTLED'
  /** Shutdown hooks have failed, or had no time. `errors` has what they threw. */
  | 'HOOK_FAILED'

/** The one class of the test kit's own errors; `code` is stable and narrows in a `switch`. */
export class TestingError extends Error {
  /** `'TestingError'`, for code that has another copy of the class. */
  override readonly name = 'TestingError'
  /** Which error it is. */
  readonly code: TestingErrorCode
  /** What tasks or hooks threw, in their order. Its first is the `cause`, too. */
  readonly errors: readonly unknown[]

  constructor(code: TestingErrorCode, message: string, errors: readonly unknown[] = []) {
    super(message, { cause: errors[0] })
    this.code = code
    this.errors = errors
  }
}
