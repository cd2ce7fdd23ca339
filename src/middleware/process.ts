// What there is once in a function's process: its companion, what its runtime client tells, and the invocations that are
// open. The middleware opens an invocation here; the client, or the hooks where it tells nothing, end it.

import type { AsyncLocalStorage } from 'node:async_hooks'
import { builtIn } from '../built-in.ts'
import { PostInvokeError } from '../errors.ts'
import { createLog, type Log, type Logger } from '../log.ts'
import { isManagedInstances, readCompanionMode } from '../variables.ts'
import { version } from '../version.ts'
import { type Companion, chooseCompanion, noCompanion } from './companion.ts'
import { createInvocation, type Invocation, type InvocationHost, type InvocationOptions } from './invocation.ts'
import { createProcessEnd, type EndingProcess, type ProcessEnd } from './process-end.ts'
import { isChildProcess, isInMainThread } from './process-role.ts'
import { observeResponseStreams, type ResponseStreams } from './response-streams.ts'
import { isRic3, observeRic3 } from './ric3.ts'
import { isRic4, observeRic4 } from './ric4.ts'
import { type RuntimeClient, type Scope, silentClient } from './runtime-client.ts'
import { turn } from './waits.ts'

export type WithoutCompanion = 'await' | 'detach' | 'throw'

export type OpenOptions = InvocationOptions & { withoutCompanion: WithoutCompanion }

/** The parts of a Middy request that are read here. */
export type OpenRequest = {
  readonly context: LambdaFacts & { readonly lambdaContext?: LambdaFacts }
  readonly error?: unknown
}

/** Of a durable execution they stand one level down. */
type LambdaFacts = {
  readonly awsRequestId?: string
  readonly tenantId?: string | undefined
  readonly getRemainingTimeInMillis?: () => number
}

/** An invocation as one `before` opened it. */
export type OpenedInvocation = {
  readonly invocation: Invocation
  /** Whether hooks have to tell the end, or the answer has to wait for the tasks. */
  readonly needsEnd: boolean
  /** The handler of this request or a middleware has thrown. Of one within another, that is the other's affair. */
  fail(): void
  /**
   * The handler of this request has ended. The answer waits for the promise, where nothing holds the environment after it.
   *
   * @param isGuessed - Whether hooks may still be running.
   */
  end(isGuessed?: boolean): Promise<void> | undefined
}

/** What the entry `hand-off` offers to the process, where it is loaded. */
export type HandedOffWork = {
  /**
   * Runs what has been handed off in this process.
   *
   * @param invocation - Its response has left: on Managed Instances its work was hidden from the others until now.
   * @param isLast - Whether the environment ends: nothing is hidden any more.
   * @returns `undefined` where nothing waits. Never rejects.
   */
  run(log: Log, deadline: number, isLast?: boolean, invocation?: Invocation): Promise<void> | undefined
}

type Shared = { [PROCESS]?: FunctionProcess; [HANDED_OFF]?: HandedOffWork; [FINDER]?: true }

const PROCESS = Symbol.for(`middy-post-invoke/${version}`)
const FINDER = Symbol.for(`middy-post-invoke/${version}/finder`)
/** Under this a Middy request carries its invocation. */
export const OPENED = Symbol.for('middy-post-invoke/opened')
export const HANDED_OFF = Symbol.for(`middy-post-invoke/${version}/hand-off`)

/** The one of this process, where a `postInvoke()` has made one. Copies of one version, as bundlers make them, share it. */
export const existingProcess = (): FunctionProcess | undefined => (globalThis as Shared)[PROCESS]

/** @param logger - Where its lines go from now on. */
export function functionProcess(logger?: Logger): FunctionProcess {
  const shared = globalThis as Shared
  if (logger) shared[PROCESS]?.log.use(logger)
  shared[PROCESS] ??= createProcess(logger)
  return shared[PROCESS]
}

/**
 * Whoever has no context at hand finds the invocation by an AsyncLocalStorage. In Node.js 22 one that is in use makes every
 * promise of the process several times slower, so it is used only where this has been called.
 *
 * To be called as a module loads, marked as pure: a bundler drops it with the functions that need it.
 *
 * @returns the invocation in which it is called, if that has not settled.
 */
export function invocationFinder(): () => Invocation | undefined {
  ;(globalThis as Shared)[FINDER] = true
  return () => existingProcess()?.current()
}

export type FunctionProcess = {
  readonly log: ReturnType<typeof createLog>
  readonly end: ProcessEnd
  /** In which invocation anything runs. Made when it is first asked for: on nodejs22.x it may never be. */
  scopes(): AsyncLocalStorage<Scope>
  /** The invocation in which the caller runs, if it has not settled. */
  current(): Invocation | undefined
  open(request: OpenRequest, options: OpenOptions): OpenedInvocation
  /** Outside Lambda: the invocation opened last with this context, settled or not. */
  invocationOf(context: object): Invocation | undefined
  /** Those with tasks that the deadline has kept from starting. */
  readonly carried: Invocation[]
  /** A handler is wrapped: its invocations will be opened here. */
  takePart(): void
  /** Whether the layer runs what is handed off, and not this process. */
  hasLayer(): boolean
  /** This function hands work off. The layer looks for it from now on. */
  expectHandedOff(): void
}

/** How long a stream that its handler broke off may take to arrive. */
const STREAM_END_MS = 1_000

function createProcess(logger: Logger | undefined): FunctionProcess {
  const log = createLog()
  if (logger) log.use(logger) // there may be something to say at once
  let storage: AsyncLocalStorage<Scope> | undefined
  function scopes() {
    storage ??= new (builtIn('node:async_hooks').AsyncLocalStorage)()
    return storage
  }
  const isMainThread = isInMainThread()
  // A child process has inherited Lambda's variables, and is to see none.
  const isLambda = process.env.AWS_LAMBDA_RUNTIME_API !== undefined && !isChildProcess(isMainThread)
  const variables = isLambda ? process.env : {}
  /** Whether this process takes one invocation at a time, on its main thread. */
  const isAlone = isLambda && isMainThread && !isManagedInstances(variables)
  const mode = readCompanionMode()
  const streams: ResponseStreams | undefined = isLambda ? observeResponseStreams() : undefined

  const openInvocations = new Map<string, Invocation>()
  /** Outside Lambda request ids are made up, and may all be the same. */
  const invocationsByContext = new WeakMap<object, Invocation>()

  /** The last one that began with no scope of its own: see `needsScope`. */
  let unscoped: Invocation | undefined

  /** The request that ended with its hooks. The companion knows, so it is not told again where the client tells of it too. */
  let endedByHooks: string | undefined

  /** The runtime client has posted a response, or a failure, also of invocations that never reached our `before`. */
  function onEnd(requestId: string): Promise<void> | undefined {
    end.hasBegun = true
    const accepted = streams?.accepted(requestId, STREAM_END_MS)
    const invocation = openInvocations.get(requestId)
    const settled = invocation?.leave()
    const wasGuessed = endedByHooks === requestId
    endedByHooks = undefined
    if (!invocation) {
      const forget = () => streams?.forget(requestId)
      void (accepted?.then(forget) ?? forget())
      if (!wasGuessed) companion.reporter(requestId, Date.now)?.settle()
    }
    if (settled && companion.isGate) return settled
    // RIC 4 does not wait for a stream that its handler broke off. Did it ask for `next` before that has arrived, Lambda
    // would give it the same event again.
    return accepted
  }

  // Which client runs this function is seen at init by what it has put there by then.
  const observe = isRic3() ? observeRic3 : isRic4() ? observeRic4 : undefined
  const client: RuntimeClient =
    (streams &&
      observe?.({
        scopes,
        streams,
        variables,
        onEnd,
        onBrokenGate() {
          log.warnOnce('WARN_GATE', 'the runtime client does not wait for InvokeStore.run')
        },
      })) ??
    silentClient
  /**
   * Whether an invocation is found by a scope. Where they come one at a time and the end of each is told, it is the one that
   * began last. But a late call to a finder must not be taken for the next invocation's; and RIC 4 has scopes anyway.
   */
  function needsScope() {
    return !isAlone || !client.tellsEnds || client.hasGate || FINDER in globalThis
  }
  let companion: Companion = noCompanion()
  let takesPart = false
  function takePart() {
    if (takesPart) return
    companion = chooseCompanion({ mode, log, client, variables, isMainThread })
    takesPart = true
    if (HANDED_OFF in globalThis) companion.expectHandedOff()
    // In the middle of an invocation: its end may never be told, and is not waited for.
    if (client.tellsEnds && client.firstUsedIn !== undefined) companion.reporter(client.firstUsedIn, Date.now)?.settle()
    log.debug(`companion: ${companion.name}`)
  }
  // With another client only the middleware tells the end of an invocation: without one a companion would wait in vain.
  if (client.tellsEnds) takePart()

  const carried: Invocation[] = []
  const guests = new Set<Invocation>()
  const host: InvocationHost & EndingProcess = {
    log,
    companion: () => companion,
    client,
    variables,
    isMainThread,
    isAlone,
    openInvocations,
    onDefer: () => end.watch(),
    handedOff(deadline, invocation) {
      // The layer's companion runs it when this invocation has settled, or the environment ends.
      if (companion.isTheLayer && invocation?.isHeld !== false) return undefined
      return (globalThis as Shared)[HANDED_OFF]?.run(log, deadline, !invocation, invocation)
    },
    afterSettled(invocation) {
      const { requestId } = invocation
      if (openInvocations.get(requestId) === invocation) openInvocations.delete(requestId)
      if (unscoped === invocation) unscoped = undefined
      guests.delete(invocation)
      streams?.forget(requestId)
    },
    canCarry: () => end.isArmed(),
    carried,
    guests,
    streaming: requestId => streams?.accepted(requestId),
  }
  const end = createProcessEnd(host)

  function open(request: OpenRequest, options: OpenOptions): OpenedInvocation {
    end.hasBegun = true
    if (!isLambda && process.env.POST_INVOKE_PID === String(process.pid)) {
      log.warnOnce('WARN_NO_CLIENT', 'this process has no runtime client')
    }
    const { context } = request
    const facts = lambdaContextOf(context)
    const requestId = facts.awsRequestId ?? context.awsRequestId ?? ''
    const joined = findOpen(requestId, facts)
    joined?.open()
    const invocation = joined ?? create(request, facts, requestId, options)
    enterScope(requestId, invocation)
    const mustAwait = !invocation.isHeld && options.withoutCompanion === 'await'
    const willTell = client.willTell(invocation.requestId)
    let hasEnded = false
    async function endRequest(isGuessed?: boolean) {
      if (hasEnded) return
      hasEnded = true
      if (!invocation.close() || willTell) return
      // Where the client tells nothing: it posts within two turns of the event loop after the handler, wrappers apart.
      await turn()
      await turn()
      if (invocation.isInHandler() || !invocation.isOpen()) return
      await invocation.leave(isGuessed)
      endedByHooks = invocation.requestId
    }
    return {
      invocation,
      needsEnd: mustAwait || !willTell,
      fail() {
        if (!joined) invocation.fail()
      },
      end(isGuessed) {
        const before = mustAwait && !isGuessed ? invocation.drainBeforeAnswer() : undefined
        if (before) return before.then(() => void endRequest())
        void endRequest(isGuessed)
        return undefined
      },
    }
  }

  /** The invocation that this is a part of, where a Middy handler calls another one, with its context or one made up. */
  function findOpen(requestId: string, facts: LambdaFacts): Invocation | undefined {
    if (!isLambda) {
      const found = invocationsByContext.get(facts)
      return found?.isInHandler() ? found : undefined
    }
    const own = openInvocations.get(requestId)
    if (own?.isOpen()) return own
    // Where others run beside it, only what the client itself has set around an invocation tells whose it is.
    const scope = needsScope() ? scopes().getStore() : undefined
    const current = isAlone || scope?.isRun ? (scope?.invocation ?? unscoped) : undefined
    return current?.isOpen() ? current : undefined
  }

  function create(request: OpenRequest, facts: LambdaFacts, requestId: string, options: OpenOptions): Invocation {
    const isGated = client.isGated(requestId)
    const isHeld = companion.holds(isGated) && requestId !== client.firstUsedIn
    if (!isHeld && options.withoutCompanion === 'throw') {
      throw new PostInvokeError('ERR_NO_COMPANION', 'Expected a companion, got none.')
    }
    const start = {
      requestId,
      tenantId: facts.tenantId,
      remainingTime: remainingTimeOf(facts),
      isHeld,
      isHeldByGate: isGated && companion.isGate,
      createReporter(deadline: () => number) {
        return companion.reporter(requestId, deadline, facts.tenantId)
      },
    }
    const invocation = createInvocation(request, start, options, host)
    // The same id again, of a retry, while the tasks of the failed one are still under way: these are named all the same.
    const earlier = openInvocations.get(requestId)
    if (earlier) guests.add(earlier)
    if (isLambda && requestId !== '') openInvocations.set(requestId, invocation)
    else invocationsByContext.set(facts, invocation)
    return invocation
  }

  /** Binds what the handler calls from here on to this invocation. */
  function enterScope(requestId: string, invocation: Invocation): void {
    if (!needsScope()) {
      unscoped = invocation
      return
    }
    const scope = scopes().getStore()
    // The scope of the InvokeStore.run around this invocation; any other is left over from an earlier one.
    if (scope && scope.requestId === requestId && scope.invocation === undefined) scope.invocation = invocation
    else if (scope?.invocation !== invocation) {
      // Within Lambda an inner handler joins the invocation, whatever its context is.
      let outer = isLambda ? undefined : scope
      while (outer && !outer.invocation?.isInHandler()) outer = outer.outer
      scopes().enterWith({ requestId, invocation, outer })
    }
  }

  return {
    log,
    end,
    open,
    scopes,
    current() {
      let scope = scopes().getStore()
      // The outer handler goes on in the scope that an inner one has entered, also when that one is over.
      while (scope?.outer && scope.invocation?.isSettled()) scope = scope.outer
      return scope?.invocation ?? unscoped // where a finder has been loaded since it began
    },
    invocationOf: context => invocationsByContext.get(context),
    carried,
    takePart,
    hasLayer: () => companion.isTheLayer,
    expectHandedOff: () => companion.expectHandedOff(),
  }
}

/** The one that a durable execution was given, where this is its own. */
function lambdaContextOf(context: OpenRequest['context']): LambdaFacts {
  return typeof context.lambdaContext === 'object' && context.lambdaContext !== null ? context.lambdaContext : context
}

/** @returns `Infinity` where there is none, or none to be had. */
function remainingTimeOf(context: LambdaFacts): number {
  try {
    const remaining = context.getRemainingTimeInMillis?.()
    if (Number.isFinite(remaining)) return remaining as number
  } catch {}
  return Number.POSITIVE_INFINITY
}
