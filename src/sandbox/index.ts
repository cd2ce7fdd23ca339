/**
 * A local Lambda for tests: real processes, layers, freezing, timeouts and the shutdown. It needs Linux or another POSIX
 * system, and no network but the loopback.
 *
 * @packageDocumentation
 */
import { randomBytes, randomUUID } from 'node:crypto'
import { createEnvironment, type Environment, type Failure, functionArn, type InvocationEnd } from './environment.ts'
import { SandboxError } from './error.ts'
import { createRecorder } from './events.ts'
import { listen, refuse } from './http.ts'
import { type PostedAnswer, platformError } from './runtime-api.ts'
import { readOptions } from './settings.ts'
import type {
  Answer,
  InvocationReport,
  InvokeOptions,
  Sandbox,
  SandboxOptions,
  SentInvocation,
  ShutdownReport,
} from './types.ts'
import { createVariables } from './variables.ts'

export { SandboxError, type SandboxErrorCode } from './error.ts'
export type {
  ExtensionEventType,
  ExtensionKind,
  LogLine,
  ProcessExit,
  SandboxEvent,
  SandboxEventBody,
  ShutdownReason,
} from './events.ts'
export type { ErrorTrailers } from './runtime-api.ts'
export type * from './types.ts'

/**
 * Starts a local Lambda: the Runtime API and the Extensions API on a loopback port, the extensions of the given
 * layers, then the function's process. Resolves when Init has ended.
 *
 * One environment at a time, one invocation at a time. Of the Telemetry API there are `platform.start`, `.runtimeDone` and
 * `.report`, by HTTP. Not there: Managed Instances, SnapStart, and limits of memory and CPU.
 *
 * @param options - Where the function is, and what its environment is like.
 * @returns the sandbox. End it with `shutdown()`, or dispose of it with `await using`.
 * @throws {@link SandboxError} `OPTION_INVALID` for an option that cannot be, `INIT_FAILED` when Init failed or took
 * longer than `initTimeout`; nothing is left running then.
 *
 * @example
 * ```ts
 * import { createSandbox } from 'middy-post-invoke/sandbox'
 *
 * await using sandbox = await createSandbox({ taskRoot: 'dist', handler: 'index.handler', layers: ['layer'] })
 * const { answered, released } = sandbox.send({ order: 1 })
 * console.log((await answered).body())
 * console.log((await released).releasedAt)
 * ```
 */
export const createSandbox = async (options: SandboxOptions): Promise<Sandbox> => {
  const settings = readOptions(options)
  const recorder = createRecorder(options.onEvent, options.onLog)
  let environment: Environment | undefined
  let isClosed = false
  let isDisposed = false
  let queue: Promise<unknown> = Promise.resolve()

  const server = await listen((request, response) => {
    if (environment) environment.handle(request, response)
    else refuse(response, 404, 'NotFound', 'No environment')
  })
  const variables = createVariables(settings, server.address)

  const startEnvironment = async (): Promise<Failure | undefined> => {
    const started = createEnvironment(settings, server.address, variables, recorder)
    environment = started
    const failure = await started.init()
    if (!failure) return undefined
    recorder.record({ type: 'init-failed', errorType: failure.errorType, message: failure.message })
    await started.destroy(failure)
    environment = undefined
    return failure
  }

  const reset = async (reason: 'TIMEOUT' | 'FAILURE') => {
    recorder.record({ type: 'reset', reason })
    await environment?.shutdown(reason)
    environment = undefined
  }

  const run = async (invocation: QueuedInvocation): Promise<InvocationEnd> => {
    // What died between two invocations is found now, as on Lambda: a fresh Init comes first.
    if (environment?.failure() && !isDisposed) await reset('FAILURE')
    const failure = isDisposed ? DISPOSED : environment ? undefined : await startEnvironment()
    if (!environment || failure) {
      const { errorType, message } = failure ?? DISPOSED
      invocation.onAnswer(platformError(errorType, message), 0, undefined)
      return { releasedAt: 0, timedOut: false, failure: failure ?? DISPOSED }
    }
    const end = await environment.invoke({ ...invocation, functionArn: functionArn(variables) })
    if (isDisposed) return end
    if (end.timedOut) await reset('TIMEOUT')
    else if (end.failure) await reset('FAILURE')
    return end
  }

  const send = (event: unknown, invokeOptions: InvokeOptions = {}): SentInvocation => {
    if (isClosed) throw new SandboxError('SANDBOX_CLOSED', 'The sandbox has been shut down: create another one')
    const requestId = invokeOptions.requestId ?? randomUUID()
    const traceId = invokeOptions.traceId ?? createTraceId()
    const answered = createDeferred<Answer>()
    const onAnswer: QueuedInvocation['onAnswer'] = (posted, at, firstByteAt) =>
      answered.resolve(toAnswer(requestId, posted, at, firstByteAt))
    const headers = invocationHeaders(requestId, functionArn(variables), traceId, invokeOptions)
    const invocation = { requestId, traceId, headers, payload: JSON.stringify(event) ?? '{}', onAnswer }
    const released = queue.then(async () => {
      const end = await run(invocation)
      return toReport(await answered.promise, end)
    })
    queue = released.catch(() => {})
    return { requestId, answered: answered.promise, released }
  }

  const close = async () => {
    isClosed = true
    await server.close()
    variables.remove()
  }

  let shuttingDown: Promise<ShutdownReport> | undefined
  const shutdown = async (): Promise<ShutdownReport> => {
    isClosed = true
    await queue
    const report = await environment?.shutdown('SPINDOWN')
    environment = undefined
    await close()
    return report ?? { reason: 'SPINDOWN', durationMs: 0, processes: [] }
  }

  const failure = await startEnvironment()
  if (failure) {
    await close()
    throw new SandboxError('INIT_FAILED', initMessage(failure, recorder.logs), failure)
  }
  return {
    events: recorder.events,
    logs: recorder.logs,
    runtimeApi: server.address,
    get runtimePid() {
      return environment?.runtimePid()
    },
    get extensionPids() {
      return environment?.extensionPids() ?? {}
    },
    send,
    invoke: async (event, invokeOptions) => send(event, invokeOptions).released,
    shutdown: () => (shuttingDown ??= shutdown()),
    async [Symbol.asyncDispose]() {
      isClosed = true
      isDisposed = true
      await environment?.destroy(DISPOSED)
      await queue
      environment = undefined
      await close()
    },
  }
}

type QueuedInvocation = {
  readonly requestId: string
  readonly traceId: string
  readonly payload: string
  readonly headers: Readonly<Record<string, string>>
  onAnswer(posted: PostedAnswer, at: number, firstByteAt: number | undefined): void
}

const createDeferred = <Value>() => {
  let resolve!: (value: Value) => void
  const promise = new Promise<Value>(settle => {
    resolve = settle
  })
  return { promise, resolve }
}

const DISPOSED: Failure = { errorType: 'Sandbox.Disposed', message: 'The sandbox was disposed of' }

const invocationHeaders = (
  requestId: string,
  arn: string,
  traceId: string,
  { clientContext, identity }: InvokeOptions,
): Record<string, string> => ({
  'Lambda-Runtime-Aws-Request-Id': requestId,
  'Lambda-Runtime-Invoked-Function-Arn': arn,
  'Lambda-Runtime-Trace-Id': traceId,
  ...(clientContext === undefined ? {} : { 'Lambda-Runtime-Client-Context': toHeader(clientContext) }),
  ...(identity === undefined ? {} : { 'Lambda-Runtime-Cognito-Identity': toHeader(identity) }),
})

/** JSON in ASCII, since a header may hold nothing else. */
const toHeader = (value: unknown) =>
  JSON.stringify(value).replace(/[^ -~]/g, unit => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)

const createTraceId = () => {
  const seconds = Math.floor(Date.now() / 1000).toString(16)
  return `Root=1-${seconds}-${randomBytes(12).toString('hex')};Parent=${randomBytes(8).toString('hex')};Sampled=0`
}

const toAnswer = (requestId: string, posted: PostedAnswer, at: number, firstByteAt: number | undefined): Answer => ({
  requestId,
  at,
  ...(firstByteAt === undefined ? {} : { firstByteAt }),
  ...posted,
  body: () => JSON.parse(posted.payload),
})

const toReport = (answer: Answer, { releasedAt, timedOut, failure }: InvocationEnd): InvocationReport => ({
  ...answer,
  releasedAt,
  timedOut,
  ...(failure?.crashed ? { crashed: failure.crashed } : {}),
  status: timedOut ? 'timeout' : failure ? 'crash' : answer.kind === 'error' ? 'error' : 'success',
})

const initMessage = ({ errorType, message }: Failure, logs: Sandbox['logs']) => {
  const lines = logs.slice(-20).map(({ source, text }) => `\n  ${source}: ${text}`)
  return `Init failed: ${errorType}: ${message}${lines.length > 0 ? `\nLast lines written:${lines.join('')}` : ''}`
}
