/**
 * One thing that happened in a sandbox. `at` counts milliseconds since the sandbox began; `process` is `function` for
 * the function's process, else an external extension's name.
 *
 * @example
 * ```ts
 * sandbox.events.filter(event => event.type === 'released').length
 * ```
 */
export type SandboxEvent = SandboxEventBody & { readonly at: number }

/** What can happen in a sandbox. `type` tells which of them it is. */
export type SandboxEventBody =
  | { readonly type: 'init-started' }
  | { readonly type: 'extension-started'; readonly name: string; readonly pid: number }
  | {
      readonly type: 'extension-registered'
      readonly name: string
      readonly kind: ExtensionKind
      readonly events: readonly ExtensionEventType[]
    }
  | { readonly type: 'runtime-started'; readonly pid: number }
  | { readonly type: 'init-ended' }
  | { readonly type: 'init-failed'; readonly errorType: string; readonly message: string }
  | { readonly type: 'invoke'; readonly requestId: string; readonly deadlineMs: number }
  /** The first byte of a streamed response reached the caller. */
  | { readonly type: 'response-first-byte'; readonly requestId: string }
  /** The caller has its whole answer: the function's own, or the one that Lambda writes after a timeout or a crash. */
  | { readonly type: 'response'; readonly requestId: string; readonly kind: 'response' | 'error' }
  | { readonly type: 'runtime-next' }
  | { readonly type: 'extension-next'; readonly name: string }
  | { readonly type: 'released'; readonly requestId: string }
  | { readonly type: 'timeout'; readonly requestId: string }
  | { readonly type: 'reset'; readonly reason: ShutdownReason }
  | { readonly type: 'frozen' }
  | { readonly type: 'thawed' }
  | { readonly type: 'shutdown-started'; readonly reason: ShutdownReason }
  | { readonly type: 'sigterm'; readonly process: string }
  | {
      readonly type: 'shutdown-event'
      readonly name: string
      readonly reason: ShutdownReason
      readonly deadlineMs: number
    }
  | { readonly type: 'sigkill'; readonly process: string }
  | { readonly type: 'shutdown-ended' }
  | ({ readonly type: 'process-exited'; readonly pid: number } & ProcessExit)

/** How a process ended. */
export type ProcessExit = {
  /** `function`, or the external extension's name. */
  readonly process: string
  /** `null` when a signal ended the process, or when it could not be started. */
  readonly exitCode: number | null
  /** `null` when the process ended by itself. */
  readonly signal: NodeJS.Signals | null
}

/** Whether an extension is a process of its own, or a part of the function's. */
export type ExtensionKind = 'external' | 'internal'

/** What an extension can subscribe to. */
export type ExtensionEventType = 'INVOKE' | 'SHUTDOWN'

/** Why an environment ends: nobody needs it any more, its function timed out, or a process failed. */
export type ShutdownReason = 'SPINDOWN' | 'TIMEOUT' | 'FAILURE'

/** One line that a process of the environment wrote. */
export type LogLine = {
  /** Milliseconds since the sandbox began. */
  readonly at: number
  /** `function`, or the external extension's name. */
  readonly source: string
  /** Where it was written. */
  readonly stream: 'stdout' | 'stderr'
  /** The line, without its line break. */
  readonly text: string
}

export const FUNCTION_PROCESS = 'function'

export type Recorder = {
  readonly events: SandboxEvent[]
  readonly logs: LogLine[]
  /** Whether somebody is told of each line as it is read. */
  readonly isHeard: boolean
  record(event: SandboxEventBody): void
  log(line: Omit<LogLine, 'at'>): void
}

export const createRecorder = (onEvent?: (event: SandboxEvent) => void, onLog?: (line: LogLine) => void): Recorder => {
  const beganAt = performance.now()
  const events: SandboxEvent[] = []
  const logs: LogLine[] = []
  return {
    events,
    logs,
    isHeard: onLog !== undefined,
    record(body) {
      const event = { ...body, at: performance.now() - beganAt }
      events.push(event)
      onEvent?.(event)
    },
    log(body) {
      const line = { ...body, at: performance.now() - beganAt }
      logs.push(line)
      onLog?.(line)
    },
  }
}
