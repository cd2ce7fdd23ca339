/** What went wrong: an option that cannot be, an Init that failed, or a call on a sandbox that was shut down. */
export type SandboxErrorCode = 'OPTION_INVALID' | 'INIT_FAILED' | 'SANDBOX_CLOSED'

/** The one class of the sandbox's own errors; `code` is stable and narrows in a `switch`. */
export class SandboxError extends Error {
  /** `'SandboxError'`, for code that has another copy of the class. */
  override readonly name = 'SandboxError'
  /** Which error it is. */
  readonly code: SandboxErrorCode

  constructor(code: SandboxErrorCode, message: string, cause?: unknown) {
    super(message, { cause })
    this.code = code
  }
}
