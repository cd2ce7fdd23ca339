// What there is once in a function's process: its companion, what its runtime client tells, and the invocations that are
// open. The middleware opens an invocation here; the client's signals, or the hooks where it gives none, end it.
import type { AsyncLocalStorage, AsyncResource } from 'node:async_hooks'
import { PostInvokeError } from '../errors.ts'
import { chooseCompanion } from '../extension/choose-companion.ts'
import { type Companion, withoutCompanionApplies } from '../extension/companion.ts'
import { registerForSigterm } from '../extension/internal.ts'
import { listTasks } from '../extension/link.ts'
import { createLog, type Logger } from '../log.ts'
import { readCompanionMode } from '../variables.ts'
import { type CarriedTask, Invocation, type InvocationHost, type InvocationOptions } from './invocation.ts'
import { observeResponseStreams, type ResponseStreams } from './response-streams.ts'
import { lacksItsClient, observeRuntimeClient, type RuntimeClient, type Scope } from './runtime-client.ts'
import { FUNCTION_PROCESS, HANDED_OFF, type Shared } from './shared.ts'
import { Shutdown } from './shutdown.ts'
import { isRelayed, listenForRelay } from './signal-relay.ts'

export type WithoutCompanion = 'await' | 'detach' | 'throw'

/** The parts of a Middy request that are read here. */
export type OpenRequest = {
  context: {
    awsRequestId?: string
    getRemainingTimeInMillis?: () => number
    lambdaContext?: { awsRequestId?: string; getRemainingTimeInMillis?: () => number }
  }
  response?: unknown
  error?: unknown
}

/** An invocation as one `before` opened it. */
export type OpenInvocation = {
  readonly invocation: Invocation
  /** Whether only the caller of {@link OpenInvocation.end} knows the end, or has to wait for the tasks. */
  readonly needsEnd: boolean
  /** The handler of this request has ended. The answer waits for the promise, where nothing holds the environment after it. */
  end(): Promise<void> | undefined
}

/**
 * @param logger - Where its lines go from now on.
 * @returns the one of this process. Copies of one version of this package, as bundlers make them, share it: a second
 * companion could not register, and a second socket could not be bound.
 */
export const functionProcess = (logger?: Logger): FunctionProcess => {
  const global = globalThis as Shared
  if (logger) global[FUNCTION_PROCESS]?.useLogger(logger)
  global[FUNCTION_PROCESS] ??= new FunctionProcess(logger)
  return global[FUNCTION_PROCESS]
}

/** How long a stream that its handler broke off may take to arrive. */
const STREAM_END_MS = 1_000

/** Told by a variable that children inherit. Set as the module loads, for a child may be forked before anything is used. */
const isChildProcess = () =>
  (process.env.POST_INVOKE_PID ?? String(process.pid)) !== String(process.pid) ||
  // One that is started before the function has loaded us.
  (isMainThreadOf(process) && lacksItsClient(process.env))
if (process.env.AWS_LAMBDA_RUNTIME_API !== undefined) process.env.POST_INVOKE_PID ??= String(process.pid)

export class FunctionProcess {
  readonly #log = createLog()
  readonly #scopes: AsyncLocalStorage<Scope<Invocation>>
  readonly #asyncContext: () => AsyncResource
  /** None of Lambda's in a child of the function's process, which inherits them: it is no party of its own. */
  readonly #variables: Readonly<Record<string, string | undefined>> = isChildProcess() ? {} : process.env
  readonly #isLambda = this.#variables.AWS_LAMBDA_RUNTIME_API !== undefined
  readonly #isMainThread: boolean
  /** Whether this process takes one invocation at a time, on its main thread. */
  readonly #isAlone: boolean
  readonly #streams: ResponseStreams | undefined
  readonly #client: RuntimeClient
  readonly #companion: Companion
  readonly #open = new Map<string, Invocation>()
  /** Outside Lambda request ids are made up, and may all be the same. */
  readonly openContexts = new WeakMap<object, Invocation>()
  /** Tasks that the deadline of their invocation has kept from starting, the oldest first. */
  carried: CarriedTask[] = []
  #watchesExit = false
  #ignoresSigterm = false
  #shutdown: Shutdown | undefined
  /** Whether an invocation has begun: what has to be registered had to be by then. */
  #hasBegun = false

  constructor(logger?: Logger) {
    if (logger) this.#log.use(logger) // there may be something to say at once
    const { AsyncLocalStorage, AsyncResource } = process.getBuiltinModule('node:async_hooks')
    this.#scopes = new AsyncLocalStorage()
    // What AsyncLocalStorage.snapshot() makes too, at a fifth of its time and a twentieth of its memory.
    this.#asyncContext = () => new AsyncResource('middy-post-invoke', { requireManualDestroy: true })
    const isMainThread = isMainThreadOf(process)
    this.#isMainThread = isMainThread
    this.#isAlone = this.#isLambda && isMainThread && this.#variables.AWS_LAMBDA_MAX_CONCURRENCY === undefined
    const mode = readCompanionMode()
    this.#streams = this.#isLambda ? observeResponseStreams() : undefined
    this.#client = observeRuntimeClient<Invocation>({
      scopes: this.#scopes,
      streams: { has: requestId => this.#streams?.has(requestId) ?? false },
      variables: this.#variables,
      onEnd: requestId => this.#ended(requestId),
      onBrokenGate: () => {
        this.#log.warnOnce(
          'gate',
          `the runtime client does not wait for InvokeStore.run, which was to hold the environment; from now on ${withoutCompanionApplies}. POST_INVOKE_COMPANION=internal or the layer avoids this.`,
        )
      },
    })
    this.#companion = chooseCompanion({
      mode,
      log: this.#log,
      gate: this.#client.gate,
      variables: this.#variables,
      isMainThread,
      fileExists: path => process.getBuiltinModule('node:fs').existsSync(path),
    })
    this.#log.debug(`companion: ${this.#companion.kind}`)
  }

  useLogger(logger: Logger): void {
    this.#log.use(logger)
  }

  /** What runs when the environment ends. Made at the first use: most functions have none. */
  get shutdown(): Shutdown {
    this.#shutdown ??= new Shutdown({
      log: this.#log,
      budget: () => (this.#hasExternalExtension() ? 300 : 500),
      onSigterm: drain => this.#onSigterm(async () => (this.#ignoresSigterm ? undefined : drain())),
      drainTasks: async milliseconds => {
        await this.#drainTasks(milliseconds)
        this.#logUnfinished('the environment ends')
      },
    })
    return this.#shutdown
  }

  /** There will be work after a response, deferred or handed off: this process must not end as if there were none. */
  expectWork(): void {
    if (!this.#isLambda || this.#watchesExit) return
    this.#watchExit()
    this.drainAtShutdown()
  }

  /** Where SIGTERM comes by itself, it is made use of. */
  drainAtShutdown(): void {
    if (this.#companion.bringsSigterm && !this.#ignoresSigterm) this.shutdown.arm()
  }

  /** Does without the drain, also where hooks have asked for it. */
  ignoreSigterm(): void {
    this.#ignoresSigterm = true
  }

  async #drainTasks(milliseconds: number): Promise<void> {
    const end = performance.now() + milliseconds
    await Promise.all([...this.#open.values()].map(invocation => invocation.runAtShutdown(milliseconds)))
    const byOrigin = Map.groupBy(this.carried.splice(0), ({ origin }) => origin)
    for (const [origin, tasks] of byOrigin) {
      const entries = tasks.map(({ entry }) => entry)
      await origin.runCarriedAtShutdown(entries, Math.max(0, end - performance.now()))
    }
    if (this.#companion.kind !== 'layer') await this.#runHandedOff(Date.now() + end - performance.now(), true)
  }

  /** What the entry `hand-off` has to do, where it is loaded. */
  #runHandedOff(deadline: number, isLast?: boolean, invocation?: Invocation): Promise<void> | undefined {
    return (globalThis as Shared)[HANDED_OFF]?.run(this.#log, deadline, isLast, invocation)
  }

  #hasExternalExtension(): boolean {
    if (this.#companion.kind === 'layer') return true
    try {
      return process.getBuiltinModule('node:fs').readdirSync('/opt/extensions').length > 0
    } catch {
      return false
    }
  }

  #onSigterm(drain: () => Promise<void>): string | undefined {
    if (!this.#isMainThread) {
      if (!isRelayed())
        return 'signals go to the main thread: NODE_OPTIONS=--import middy-post-invoke/preload relays them'
      listenForRelay(drain)
      return undefined
    }
    // First of all, for one that listens once is gone when it has been called.
    process.prependOnceListener('SIGTERM', () => {
      // Others who listen have their own end in mind, and may not be done: then Lambda ends the process.
      const isAlone = process.listenerCount('SIGTERM') === 0
      drain().finally(() => {
        if (isAlone) this.#end()
      })
    })
    return this.#bringSigterm()
  }

  /** Lambda sends SIGTERM only beside an extension: https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html */
  #bringSigterm(): string | undefined {
    if (!this.#isLambda || this.#companion.bringsSigterm || this.#hasExternalExtension()) return undefined
    if (this.#hasBegun) return 'it was asked for after init, when nothing can be registered any more'
    return registerForSigterm(process.env.AWS_LAMBDA_RUNTIME_API as string, this.#log)
  }

  /** Ends the process as SIGTERM would have: at once, and on Lambda for good (process.exit would wait, see #watchExit). */
  #end() {
    if (this.#isAlone) process.kill(process.pid, 'SIGKILL')
    if (!this.#isLambda) process.kill(process.pid, 'SIGTERM')
  }

  /** The invocation in which the caller runs, if it has not settled. */
  get current(): Invocation | undefined {
    let scope = this.#scopes.getStore()
    // The outer handler goes on in the scope that an inner one has entered, also when that one is over.
    while (scope?.outer && scope.invocation?.isSettled) scope = scope.outer
    return scope?.invocation
  }

  /** `waitUntil`, as libraries know it from other platforms, for the invocation in which this is asked. It never throws. */
  get waitUntil(): ((promise: unknown) => void) | undefined {
    const invocation = this.current
    if (!invocation) return undefined
    return promise => {
      try {
        invocation.defer(Promise.resolve(promise), { name: 'waitUntil' })
      } catch (error) {
        this.#log.error('a promise given to waitUntil() is not waited for:', error)
      }
    }
  }

  open(request: OpenRequest, options: InvocationOptions & { withoutCompanion: WithoutCompanion }): OpenInvocation {
    this.#hasBegun = true
    if (!this.#isLambda && !isChildProcess() && process.env.AWS_LAMBDA_RUNTIME_API !== undefined) {
      this.#log.warnOnce(
        'early',
        'first used before the runtime client had loaded, as by a module that NODE_OPTIONS preloads, and so taken for a child process: nothing holds the environment. Call postInvoke() and onShutdown() in the module of the handler, or in what it imports.',
      )
    }
    const { context } = request
    const requestId = context.awsRequestId ?? context.lambdaContext?.awsRequestId ?? ''
    const joined = this.#findOpen(requestId, context)
    joined?.join()
    const invocation = joined ?? this.#create(request, requestId, options)
    if (!joined) {
      if (this.#isLambda && requestId !== '') this.#open.set(requestId, invocation)
      else this.openContexts.set(context, invocation)
    }
    this.#enter(requestId, invocation)
    const mustAwait = !invocation.isHeld && options.withoutCompanion === 'await'
    let hasEnded = false
    const end = () => {
      if (hasEnded) return
      hasEnded = true
      invocation.leave()
      if (!this.#client.willTell(invocation.requestId)) this.#departAfterHooks(invocation)
    }
    return {
      invocation,
      needsEnd: mustAwait || !this.#client.willTell(invocation.requestId),
      end: () => {
        const before = mustAwait ? invocation.runBeforeAnswer() : undefined
        if (before) return before.then(end)
        end()
        return undefined
      },
    }
  }

  /** The invocation that this is a part of, where a Middy handler calls another one, with its context or one made up. */
  #findOpen(requestId: string, context: object): Invocation | undefined {
    if (this.#isLambda) {
      // Where others run beside it, only what the client itself has set around an invocation tells whose it is.
      const scope = this.#scopes.getStore()
      const current = this.#isAlone || scope?.isRun ? scope?.invocation : undefined
      return [this.#open.get(requestId), current].find(invocation => invocation?.isInHandler)
    }
    const found = this.openContexts.get(context)
    return found?.isInHandler && !found.isLeft ? found : undefined
  }

  #create(
    request: OpenRequest,
    requestId: string,
    options: InvocationOptions & { withoutCompanion: WithoutCompanion },
  ): Invocation {
    const { context } = request
    const isGated = this.#client.isGated(requestId)
    const isHeld = this.#companion.holds({ gated: isGated })
    if (!isHeld && options.withoutCompanion === 'throw') {
      throw new PostInvokeError(
        'ERR_NO_COMPANION',
        'Expected a companion to hold the environment after the response, but there is none: POST_INVOKE_COMPANION is off, or a warning in the log says why. Attach the layer, or change POST_INVOKE_COMPANION or withoutCompanion.',
      )
    }
    const { getRemainingTimeInMillis: own } = context
    const remaining = own ? own.call(context) : context.lambdaContext?.getRemainingTimeInMillis?.()
    return new Invocation(
      request,
      {
        requestId,
        remainingTime: Number.isFinite(remaining) ? (remaining as number) : Number.POSITIVE_INFINITY,
        isHeld,
        isGated: isGated && this.#companion.kind === 'gate',
      },
      options,
      this.#host,
    )
  }

  /** Binds what the handler calls from here on to this invocation. */
  #enter(requestId: string, invocation: Invocation) {
    const scope = this.#scopes.getStore()
    // The scope of the InvokeStore.run around this invocation; any other is left over from an earlier one.
    if (scope && scope.requestId === requestId && scope.invocation === undefined) scope.invocation = invocation
    else if (scope?.invocation !== invocation) {
      // Within Lambda an inner handler joins the invocation, whatever its context is.
      let outer = this.#isLambda ? undefined : scope
      while (outer?.invocation?.isLeft) outer = outer.outer
      this.#scopes.enterWith({ requestId, invocation, outer })
    }
  }

  readonly #host: InvocationHost = {
    log: this.#log,
    asyncContext: () => this.#asyncContext(),
    onDefer: () => this.expectWork(),
    handedOff: (invocation, deadline) =>
      // The layer's companion runs it when this invocation has settled.
      this.#companion.kind === 'layer' && invocation.isHeld
        ? undefined
        : this.#runHandedOff(deadline, false, invocation),
    onTasks: invocation => this.#companion.tasks(invocation.requestId, invocation.unfinished),
    isTold: () => this.#companion.kind === 'layer',
    onSettled: invocation => {
      const { requestId } = invocation
      if (this.#open.get(requestId) === invocation) this.#open.delete(requestId)
      this.#streams?.forget(requestId)
      this.#companion.settle(requestId)
    },
    canCarry: () => !this.#ignoresSigterm && this.#shutdown?.isArmed === true,
    carry: (task, maxCarried) => {
      this.carried.push(task)
      return this.carried.splice(0, Math.max(0, this.carried.length - maxCarried))
    },
    takeCarried: () => this.carried.splice(0),
    ready: ({ isHeld }) => (isHeld ? this.#companion.ready() : undefined),
    streaming: ({ requestId }) => this.#streams?.accepted(requestId),
  }

  /** The runtime client has posted a response, or a failure, also of invocations that never reached our `before`. */
  #ended(requestId: string): Promise<void> | undefined {
    this.#hasBegun = true
    const accepted = this.#streams?.accepted(requestId, STREAM_END_MS)
    const invocation = this.#open.get(requestId)
    const settled = invocation?.depart()
    if (!invocation) {
      Promise.resolve(accepted).then(() => this.#streams?.forget(requestId))
      this.#companion.settle(requestId)
    }
    if (settled && this.#companion.kind === 'gate') return settled
    // RIC 4 does not wait for a stream that its handler broke off. Did it ask for `next` before that has arrived, Lambda
    // would give it the same event again.
    return accepted
  }

  /** Where the client tells nothing: it posts within two turns of the event loop after the handler, wrappers apart. */
  #departAfterHooks(invocation: Invocation) {
    setImmediate(() => setImmediate(() => invocation.isLeft && invocation.depart()))
  }

  /**
   * A process that ends while tasks are unfinished says so. And it must really end: while the runtime client's native
   * call for the next invocation is pending, an exit waits for that call, and the next invocation dies in it.
   */
  #watchExit() {
    this.#watchesExit = true
    process.on('exit', () => {
      this.#logUnfinished('the process ends')
      if (this.#isAlone && this.#client.isBusy() === false) process.kill(process.pid, 'SIGKILL')
    })
    if (!this.#client.mayCrash) return
    // The client's own listeners, which come next, end the process. These handle nothing.
    const warn = () => this.#logUnfinished('an uncaught error is about to end the process')
    process.on('uncaughtExceptionMonitor', warn)
    if (process.listenerCount('unhandledRejection') > 0) process.prependListener('unhandledRejection', warn)
  }

  #logUnfinished(what: string) {
    for (const { requestId, unfinished } of this.#open.values()) {
      if (unfinished.names.length === 0) continue
      this.#log.error(
        `${what} in the middle of request ${requestId}; unfinished: ${listTasks(unfinished)}`,
        undefined,
        {
          requestId,
          tasks: unfinished.names,
        },
      )
    }
    for (const { entry, origin } of this.carried) {
      this.#log.error(
        `${what} before task ${JSON.stringify(entry.label)} of request ${entry.carried?.awsRequestId} could run`,
        undefined,
        { task: entry.label, requestId: origin.requestId },
      )
    }
  }
}

/**
 * Asked without node:worker_threads, which takes 2 ms to load where nobody has loaded it: a worker cannot change the
 * directory. https://nodejs.org/api/worker_threads.html#class-worker
 */
const isMainThreadOf = ({ chdir, cwd }: NodeJS.Process): boolean => {
  try {
    chdir(cwd())
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ERR_WORKER_UNSUPPORTED_OPERATION'
  }
}
