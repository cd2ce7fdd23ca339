// What goes wrong on the command line, and the exit codes for it.
import type { Run } from './run.ts'

export const EXIT_FAILED = 1
export const EXIT_USAGE = 2

/** The command was given something that it cannot use: what was expected, what was given, what to do. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
  readonly exitCode = EXIT_USAGE
}

/** The command was right, but it could not do what it was to do. */
export class CommandError extends Error {
  override readonly name: string = 'CommandError'
  readonly exitCode = EXIT_FAILED
}

/** The handler's Init has failed. */
export class InitFailed extends CommandError {
  override readonly name = 'InitFailed'
  readonly run: Run

  constructor(message: string, run: Run) {
    super(message)
    this.run = run
  }
}

/** A signal has ended it, and everything has been cleaned up. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted'
  readonly exitCode: number

  constructor(exitCode: number) {
    super('Interrupted')
    this.exitCode = exitCode
  }
}

/** Errors of the system explain themselves; of anything else, a bug, the stack is needed. */
export const explainUnexpected = (error: unknown): string => {
  if (!(error instanceof Error)) return String(error)
  return 'syscall' in error || error.name === 'SandboxError' ? error.message : (error.stack ?? error.message)
}
