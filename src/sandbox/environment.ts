import type { IncomingMessage, ServerResponse } from 'node:http'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { FUNCTION_PROCESS, type ProcessExit, type Recorder, type ShutdownReason } from './events.ts'
import { createExtensionsApi } from './extensions-api.ts'
import { accept, refuse, respond } from './http.ts'
import { type Child, createProcesses } from './processes.ts'
import { createRuntimeApi, type InitError, type PostedAnswer, platformError } from './runtime-api.ts'
import type { Settings } from './settings.ts'
import { createTelemetry } from './telemetry.ts'
import type { ProcessEnd, ShutdownReport } from './types.ts'
import type { Variables } from './variables.ts'
import { createWaits } from './waits.ts'

/**
 * One execution environment, from Init to its end; after a reset there is a new one.
 * https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
 */
export const createEnvironment = (settings: Settings, address: string, variables: Variables, recorder: Recorder) => {
  const { record } = recorder
  const { patience } = settings
  const waits = createWaits()
  const telemetry = createTelemetry()
  const exits: ProcessEnd[] = []
  const killed = new Set<string>()
  let failure: Failure | undefined
  let initError: InitError | undefined
  let current: CurrentInvocation | undefined
  let isEnding = false

  const runtime = createRuntimeApi({
    next() {
      record({ type: 'runtime-next' })
      if (current?.isAnswered) runtimeDone(current, current.answeredWith === 'error' ? 'error' : 'success')
      waits.check()
    },
    firstByte() {
      if (!current) return
      current.firstByteAt = performance.now() - current.startedAt
      record({ type: 'response-first-byte', requestId: current.requestId })
    },
    async beforeAnswer() {
      // What the function wrote before it answered has arrived, by a pipe, but Node may not have read it yet.
      if (recorder.isHeard) await readArrivals()
    },
    answer(posted) {
      answer(posted)
      waits.check()
    },
    initError(error) {
      initError ??= error
    },
  })

  const extensions = createExtensionsApi([...settings.extensions.keys()], functionMetadata(settings, variables), {
    registered({ name, kind, events }) {
      record({ type: 'extension-registered', name, kind, events })
      waits.check()
    },
    next({ name }) {
      record({ type: 'extension-next', name })
      waits.check()
    },
    error({ name }, errorType, detail) {
      fail({ errorType, message: `Extension ${name} reported ${detail}` })
    },
  })

  const processes = createProcesses(`AWS_LAMBDA_RUNTIME_API=${address}`, {
    line: recorder.log,
    async exit({ error, ...exit }) {
      record({ type: 'process-exited', ...exit })
      const { pid: _, ...end } = exit
      exits.push({ ...end, killed: killed.has(exit.process) })
      waits.check()
      // What it posted last has arrived, but Node may not have read it yet.
      if (current) {
        await readArrivals()
        await waits.until(() => !runtime.isAnswering(), ANSWER_WAIT_MS)
      }
      fail(describeExit(end, initError, error))
    },
  })

  const fail = (given: Failure) => {
    if (isEnding) return
    failure ??= given
    waits.check()
  }

  /** Once, whatever comes first: the runtime asks for its next invocation, or there is no runtime any more. */
  const runtimeDone = (invocation: CurrentInvocation, status: 'success' | 'error' | 'failure' | 'timeout') => {
    if (invocation.isDone) return
    invocation.isDone = true
    const { requestId, startedAt } = invocation
    const metrics = { durationMs: performance.now() - startedAt }
    telemetry.emit('platform.runtimeDone', { requestId, status, metrics })
  }

  const answer = (posted: PostedAnswer) => {
    if (!current || current.isAnswered) return
    const { requestId, startedAt, firstByteAt, onAnswer } = current
    current.isAnswered = true
    current.answeredWith = posted.kind
    record({ type: 'response', requestId, kind: posted.kind })
    onAnswer(posted, performance.now() - startedAt, firstByteAt)
  }

  const init = async (): Promise<Failure | undefined> => {
    record({ type: 'init-started' })
    const deadline = performance.now() + settings.initTimeout + patience
    const reach = async (isReached: () => boolean, describeMissing: () => string): Promise<Failure | undefined> => {
      await waits.until(() => failure !== undefined || isReached(), deadline - performance.now())
      return failure ?? (isReached() ? undefined : initTimeout(settings.initTimeout, describeMissing(), initError))
    }

    for (const [name, path] of settings.extensions) {
      const { pid } = processes.start({ name, argv: [path], cwd: '/', env: variables.extension })
      record({ type: 'extension-started', name, pid })
    }
    // The function's process comes after the last registration, so that a slow one delays every cold start.
    const unregistered = await reach(extensions.areAllRegistered, () => {
      const missing = [...settings.extensions.keys()].filter(name => !extensions.isRegistered(name))
      const others = extensions.list().filter(({ kind }) => kind === 'internal')
      const hint = others.map(({ name }) => ` Its name must be its file's name, but "${name}" registered.`).join('')
      return `extension ${missing.join(', ')} did not register.${hint}`
    })
    if (unregistered) return unregistered

    const { taskRoot: cwd, runtimeCommand: argv } = settings
    const { pid } = processes.start({ name: FUNCTION_PROCESS, argv, cwd, env: variables.function })
    record({ type: 'runtime-started', pid })
    const isRuntimeReady = () => !runtime.isStarting() && initError === undefined
    const notReady = await reach(isRuntimeReady, () => 'the runtime did not ask for its first invocation.')
    if (notReady) return notReady

    extensions.closeRegistration()
    const silent = await reach(extensions.areReady, () => {
      const missing = extensions.list().filter(({ state }) => state !== 'ready')
      return `extension ${missing.map(({ name }) => name).join(', ')} registered, but did not ask for its first event.`
    })
    if (silent) return silent
    record({ type: 'init-ended' })
    freeze()
    return undefined
  }

  const invoke = async (invocation: EnvironmentInvocation): Promise<InvocationEnd> => {
    const { requestId, payload, functionArn, traceId } = invocation
    if (processes.thaw()) record({ type: 'thawed' })
    const startedAt = performance.now()
    const deadlineMs = Math.floor(Date.now() + settings.timeout)
    current = { requestId, startedAt, isAnswered: false, onAnswer: invocation.onAnswer }
    record({ type: 'invoke', requestId, deadlineMs })
    telemetry.emit('platform.start', { requestId, version: variables.function.AWS_LAMBDA_FUNCTION_VERSION })
    const headers = { ...invocation.headers, 'Lambda-Runtime-Deadline-Ms': String(deadlineMs) }
    runtime.invoke({ requestId, payload, headers })
    // Lambda sends all events at once. Here one has to be written first: the runtime's, for its answer is what is waited for.
    const tracing = { type: 'X-Amzn-Trace-Id', value: traceId } as const
    extensions.invoke({ deadlineMs, requestId, invokedFunctionArn: functionArn, tracing })

    const isReleased = () => runtime.isReady() && extensions.areReady('INVOKE')
    const inTime = await waits.until(() => failure !== undefined || isReleased(), settings.timeout + patience)
    if (failure) {
      const { errorType, message } = failure
      answer(platformError(errorType, `RequestId: ${requestId} Error: ${message}`))
    } else if (!inTime) {
      record({ type: 'timeout', requestId })
      const seconds = (settings.timeout / 1000).toFixed(2)
      const message = `RequestId: ${requestId} Error: Task timed out after ${seconds} seconds`
      answer(platformError('Sandbox.Timedout', message))
    } else {
      record({ type: 'released', requestId })
    }
    const releasedAt = performance.now() - startedAt
    const status = failure ? 'failure' : inTime ? (current.answeredWith === 'error' ? 'error' : 'success') : 'timeout'
    runtimeDone(current, status)
    telemetry.emit('platform.report', { requestId, status, metrics: { durationMs: releasedAt } })
    current = undefined
    runtime.abandon()
    // What was written before the release has arrived, but Node may not have read it yet.
    await readArrivals()
    if (failure) return { releasedAt, timedOut: false, failure }
    if (inTime) freeze()
    return { releasedAt, timedOut: !inTime }
  }

  const shutdown = async (reason: ShutdownReason): Promise<ShutdownReport> => {
    isEnding = true
    const startedAt = performance.now()
    record({ type: 'shutdown-started', reason })
    if (processes.thaw()) record({ type: 'thawed' })
    const hasExternal = settings.extensions.size > 0
    const hasInternal = extensions.list().some(({ kind }) => kind === 'internal')
    const isTold = hasExternal || hasInternal
    const budget = (hasExternal ? EXTERNAL_BUDGET_MS : INTERNAL_BUDGET_MS) + patience
    const deadlineMs = Math.floor(Date.now() + budget)

    const functionProcess = processes.get(FUNCTION_PROCESS)
    if (functionProcess?.isAlive()) {
      if (isTold) {
        record({ type: 'sigterm', process: FUNCTION_PROCESS })
        functionProcess.signal('SIGTERM')
        await waits.until(() => !functionProcess.isAlive(), hasExternal ? RUNTIME_SHARE_MS + patience : budget)
      }
      await kill(functionProcess)
    }

    const external = processes.alive().filter(({ name }) => settings.extensions.has(name))
    for (const child of external) {
      if (extensions.shutdown(child.name, { shutdownReason: reason, deadlineMs })) {
        record({ type: 'shutdown-event', name: child.name, reason, deadlineMs })
      } else await kill(child)
    }
    await waits.until(() => external.every(child => !child.isAlive()), startedAt + budget - performance.now())
    for (const child of external) await kill(child)
    await processes.end()
    telemetry.end()
    record({ type: 'shutdown-ended' })
    return { reason, durationMs: performance.now() - startedAt, processes: exits }
  }

  const kill = async (child: Child) => {
    if (!child.isAlive()) return
    killed.add(child.name)
    record({ type: 'sigkill', process: child.name })
    child.signal('SIGKILL')
    await waits.until(() => !child.isAlive(), KILL_WAIT_MS)
  }

  const freeze = () => {
    if (!settings.freeze || failure || isEnding) return
    processes.freeze()
    record({ type: 'frozen' })
  }

  return {
    init,
    invoke,
    shutdown,
    /** Why no invocation can come here any more: a process ended. */
    failure: () => failure,
    /** No phase, no budget. An invocation under way ends with the given error. */
    async destroy(given: Failure) {
      fail(given)
      isEnding = true
      await processes.end()
      telemetry.end()
    },
    handle(request: IncomingMessage, response: ServerResponse) {
      const path = (request.url ?? '').replace(/\?.*$/, '')
      if (path.startsWith(RUNTIME_PATH)) runtime.handle(request, response, path.slice(RUNTIME_PATH.length))
      else if (path.startsWith(EXTENSION_PATH)) extensions.handle(request, response, path.slice(EXTENSION_PATH.length))
      else if (path === '/2018-06-01/ping') respond(response, 200, 'pong', { 'Content-Type': 'text/plain' })
      else if (path === '/2022-07-01/telemetry' && request.method === 'PUT') telemetry.subscribe(request, response)
      else if (path === '/2020-08-15/logs' && request.method === 'PUT') accept(response)
      else refuse(response, 404, 'NotFound', `No ${request.method} ${path}`)
    },
    runtimePid: () => alivePid(processes.get(FUNCTION_PROCESS)),
    extensionPids: () =>
      Object.fromEntries(
        processes
          .alive()
          .filter(({ name }) => name !== FUNCTION_PROCESS)
          .map(({ name, pid }) => [name, pid]),
      ),
  }
}

export type Environment = ReturnType<typeof createEnvironment>

/** Why an environment is given up. */
export type Failure = { readonly errorType: string; readonly message: string; readonly crashed?: ProcessExit }

export type EnvironmentInvocation = {
  readonly requestId: string
  readonly payload: string
  readonly functionArn: string
  readonly traceId: string
  readonly headers: Readonly<Record<string, string>>
  onAnswer(posted: PostedAnswer, at: number, firstByteAt: number | undefined): void
}

export type InvocationEnd = {
  readonly releasedAt: number
  readonly timedOut: boolean
  readonly failure?: Failure
}

type CurrentInvocation = Pick<EnvironmentInvocation, 'requestId' | 'onAnswer'> & {
  readonly startedAt: number
  firstByteAt?: number
  isAnswered: boolean
  answeredWith?: PostedAnswer['kind']
  /** Whether its end has been told. */
  isDone?: boolean
}

// https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-shutdown
const EXTERNAL_BUDGET_MS = 2_000
const INTERNAL_BUDGET_MS = 500
const RUNTIME_SHARE_MS = 300
const KILL_WAIT_MS = 2_000
const ANSWER_WAIT_MS = 500

const RUNTIME_PATH = '/2018-06-01/runtime/'
const EXTENSION_PATH = '/2020-01-01/extension/'

const ACCOUNT_ID = '123456789012'

export const functionArn = ({ function: { AWS_REGION, AWS_LAMBDA_FUNCTION_NAME } }: Variables) =>
  `arn:aws:lambda:${AWS_REGION}:${ACCOUNT_ID}:function:${AWS_LAMBDA_FUNCTION_NAME}`

const functionMetadata = ({ handler }: Settings, { function: variables }: Variables) => ({
  functionName: variables.AWS_LAMBDA_FUNCTION_NAME ?? '',
  functionVersion: variables.AWS_LAMBDA_FUNCTION_VERSION ?? '',
  handler,
  accountId: ACCOUNT_ID,
})

const describeExit = (exit: ProcessExit, initError: InitError | undefined, error: Error | undefined): Failure => {
  const status = exit.signal ? `signal: ${exit.signal}` : `exit status ${exit.exitCode}`
  if (exit.process !== FUNCTION_PROCESS) {
    const message = `extension ${exit.process}: ${error?.message ?? status}`
    return { errorType: error ? 'Extension.LaunchError' : 'Extension.Crash', message, crashed: exit }
  }
  if (error) return { errorType: 'Runtime.InvalidEntrypoint', message: error.message, crashed: exit }
  if (initError) return { ...initError, crashed: exit }
  const message =
    exit.exitCode === 0 ? 'Runtime exited without providing a reason' : `Runtime exited with error: ${status}`
  return { errorType: 'Runtime.ExitError', message, crashed: exit }
}

const initTimeout = (limit: number, missing: string, initError: InitError | undefined): Failure => ({
  errorType: 'Sandbox.InitTimedout',
  message: `Init did not end within ${limit} ms: ${missing}${initError ? ` It reported: ${initError.message}` : ''}`,
})

const alivePid = (child: Child | undefined) => (child?.isAlive() ? child.pid : undefined)

/** Turns enough of the event loop to accept a connection, and to read what came by it or by a pipe. */
const readArrivals = async () => {
  for (let turn = 0; turn < 5; turn += 1) await nextTurn()
}
