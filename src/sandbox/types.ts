import type { LogLine, ProcessExit, SandboxEvent, ShutdownReason } from './events.ts'
import type { ErrorTrailers } from './runtime-api.ts'

/** What {@link createSandbox} is given: `taskRoot` and `handler`, and how the environment differs from the usual one. */
export type SandboxOptions = {
  /** Folder of the function's code: LAMBDA_TASK_ROOT and the working directory of the function's process. */
  readonly taskRoot: string
  /** As on Lambda, `file.export` or `folder/file.export`, without the file's extension. */
  readonly handler: string
  /**
   * What stands between the Runtime API and the handler: `built-in`, or the command line of a real one, for example
   * `[process.execPath, 'node_modules/aws-lambda-ric/bin/index.mjs', 'index.handler']`. Default `built-in`, which
   * works in the order of the client of nodejs24.x, writes logs unchanged, and runs TypeScript where Node does.
   */
  readonly runtimeClient?: 'built-in' | readonly string[] | undefined
  /** Folders laid out like `/opt`. Of two files with one name, the later layer's counts. Default none. */
  readonly layers?: readonly string[] | undefined
  /** The function's timeout in milliseconds, from INVOKE to the release, extensions included. Default 3,000. */
  readonly timeout?: number | undefined
  /** Stops every process of the environment between invocations (SIGSTOP, SIGCONT). Default `false`. */
  readonly freeze?: boolean | undefined
  /**
   * The function's variables, which external extensions see too, except those that Lambda keeps from them (`_…`,
   * AWS_LAMBDA_LOG_GROUP_NAME, AWS_EXECUTION_ENV, LAMBDA_TASK_ROOT …). They replace the standard ones; `undefined` removes one.
   */
  readonly environment?: Readonly<Record<string, string | undefined>> | undefined
  /** The Node executable. Its folder stands first on the PATH of all processes. Default: the one that runs now. */
  readonly node?: string | undefined
  /** AWS_EXECUTION_ENV. Default `AWS_Lambda_nodejs24.x`. */
  readonly executionEnvironment?: string | undefined
  /** How long Init may take, in milliseconds. Default 10,000. */
  readonly initTimeout?: number | undefined
  /**
   * Milliseconds that the sandbox waits longer than Lambda before it ends something: an Init, an invocation at the
   * function's timeout, a process at the shutdown. For tests that must not fail on a busy machine. An invocation's
   * deadline is told as Lambda tells it; that of SHUTDOWN has them added. Default 0.
   * @example `createSandbox({ taskRoot, handler, timeout: 1_000, patience: 5_000 })`
   */
  readonly patience?: number | undefined
  /** Called with every event as it happens. */
  readonly onEvent?: ((event: SandboxEvent) => void) | undefined
  /** Called with every line that a process writes, as it is read. */
  readonly onLog?: ((line: LogLine) => void) | undefined
}

/** How one invocation differs from the usual one. All optional. */
export type InvokeOptions = {
  /** Default: a new UUID. Lambda repeats the id when it retries, so one may be used again. */
  readonly requestId?: string | undefined
  /** `context.clientContext`; must be serializable as JSON. */
  readonly clientContext?: unknown
  /** `context.identity`; must be serializable as JSON. */
  readonly identity?: unknown
  /** The X-Ray trace header. Default: a new one that is not sampled. */
  readonly traceId?: string | undefined
}

/** What the caller of the function got. All times are milliseconds since INVOKE. */
export type Answer = {
  /** The invocation's request id. */
  readonly requestId: string
  /** When the caller had the whole answer. */
  readonly at: number
  /** Whether the function answered with a response or failed; a timeout and a crash are errors. */
  readonly kind: 'response' | 'error'
  /** The body as it was posted. A streamed HTTP response begins with its JSON prelude and eight zero bytes. */
  readonly payload: string
  /** Whether the function answered with a stream. */
  readonly streamed: boolean
  /** When the caller had the first byte of a streamed response. */
  readonly firstByteAt?: number
  /** The content type with which it was posted. */
  readonly contentType?: string
  /** Of an error: `Error`, `Runtime.ExitError`, `Extension.Crash`, `Sandbox.Timedout` … */
  readonly errorType?: string
  /** What a streamed response that failed half-way said at its end. */
  readonly trailers?: ErrorTrailers
  /** The payload parsed as JSON. */
  body<T = any>(): T
}

/** One invocation from INVOKE to the release of its environment. */
export type InvocationReport = Answer & {
  /** When the environment was released, or given up, in milliseconds since INVOKE. */
  readonly releasedAt: number
  /** Whether the function's timeout came before the release. */
  readonly timedOut: boolean
  /** The process whose end made Lambda give the environment up. */
  readonly crashed?: ProcessExit
  /** What became of the invocation as a whole. The answer stands even if a timeout or a crash came after it. */
  readonly status: 'success' | 'error' | 'timeout' | 'crash'
}

/** An invocation under way, with its two ends. */
export type SentInvocation = {
  /** The invocation's request id. */
  readonly requestId: string
  /** Settles as soon as the caller has its answer. Never rejects. */
  readonly answered: Promise<Answer>
  /** Settles when the environment has been released, or reset. Never rejects. */
  readonly released: Promise<InvocationReport>
}

/** How an environment ended. */
export type ShutdownReport = {
  /** Why it ended. */
  readonly reason: ShutdownReason
  /** How long the shutdown took, in milliseconds. */
  readonly durationMs: number
  /** The function's process and those of external extensions, in the order in which they ended. */
  readonly processes: readonly ProcessEnd[]
}

/** How a process ended in the shutdown. */
export type ProcessEnd = ProcessExit & {
  /** Whether the sandbox had to kill it. */
  readonly killed: boolean
}

/** A local Lambda with one environment. */
export type Sandbox = {
  /**
   * Invokes the function and waits until its environment has been released, or reset.
   * @throws {@link SandboxError} `SANDBOX_CLOSED` after {@link Sandbox.shutdown}
   */
  invoke(event: unknown, options?: InvokeOptions): Promise<InvocationReport>
  /**
   * Invokes the function and gives both phases: the answer, and the release. An invocation that is sent while
   * another one is running waits for its release; Lambda would start another environment.
   * @throws {@link SandboxError} `SANDBOX_CLOSED` after {@link Sandbox.shutdown}
   */
  send(event: unknown, options?: InvokeOptions): SentInvocation
  /**
   * Waits for invocations under way, then ends the environment with Lambda's signals and budgets: without extensions
   * SIGKILL at once; with internal ones only, SIGTERM and 500 ms; with external ones, 2,000 ms in all: SIGTERM to the
   * function's process, which has 300 ms of them, then SHUTDOWN to the extensions, which never get SIGTERM.
   */
  shutdown(): Promise<ShutdownReport>
  /** Everything that happened, in order, across resets. */
  readonly events: readonly SandboxEvent[]
  /** Every line that a process of the environment wrote. */
  readonly logs: readonly LogLine[]
  /** The address of the Runtime and Extensions APIs, `host:port`. */
  readonly runtimeApi: string
  /** The function's process, if there is one at the moment. */
  readonly runtimePid: number | undefined
  /** The processes of external extensions at the moment, by name. */
  readonly extensionPids: Readonly<Record<string, number>>
  /** Kills everything at once, without a Shutdown phase, unless {@link Sandbox.shutdown} has ended it already. */
  [Symbol.asyncDispose](): Promise<void>
}
