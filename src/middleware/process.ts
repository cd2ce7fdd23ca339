// What there is once in a function's process: its companion, its runtime client, and the invocations that have not settled. A
// middleware opens an invocation here. The client's run of the request ends it; where the client tells nothing, the hooks do.

import type { AsyncLocalStorage } from 'node:async_hooks'
import { builtIn } from '../built-in.ts'
import { PostInvokeError } from '../errors.ts'
import { createLog, type Log, type Logger } from '../log.ts'
import { isManagedInstances, readCompanionMode } from '../variables.ts'
import { version } from '../version.ts'
import { chooseCompanion, noCompanion } from './companion.ts'
import type { Reporter } from './companion-process.ts'
import { createInvocation, type Invocation, type InvocationOptions, type LambdaFacts } from './invocation.ts'
import { createProcessEnd } from './process-end.ts'
import { isInMainThread, ownRuntimeApi } from './process-role.ts'
import { observeResponseStreams } from './response-streams.ts'
import { isRic3, observeRic3 } from './ric3.ts'
import { isRic4, observeRic4 } from './ric4.ts'
import type { Run, RuntimeClient, Scope } from './runtime-client.ts'
import { all, turn } from './waits.ts'

export type OpenOptions = InvocationOptions & { withoutCompanion: 'await' | 'detach' | 'throw' }

/** The parts of a Middy request that are read here. */
export type OpenRequest = {
  readonly context: LambdaFacts & { readonly lambdaContext?: LambdaFacts }
  readonly error?: unknown
}

/** An invocation as one `before` opened it. */
export type OpenedInvocation = ReturnType<FunctionProcess['open']>

/** What the entry `hand-off` offers to the process, where it is loaded. */
export type HandedOffWork = {
  /**
   * Runs what has been handed off in this process.
   *
   * @param invocation - Its response has left: on Managed Instances its work was hidden from the others until now. Without one
   * the environment ends, and nothing is hidden any more.
   * @returns `undefined` where nothing waits. Never rejects.
   */
  run(log: Log, deadline: number, invocation: Invocation | undefined): Promise<void> | undefined
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
  const log = shared[PROCESS]?.log ?? createLog()
  if (logger) log.use(logger) // first: there may be something to say at once
  shared[PROCESS] ??= createProcess(log)
  return shared[PROCESS]
}

/**
 * Whoever has no context at hand finds the invocation by an AsyncLocalStorage. In Node.js 22 one that is in use makes every
 * promise of the process several times slower, so it is used only where this has been called.
 *
 * To be called as a module loads, marked as pure: a bundler drops it with the functions that need it.
 *
 * @returns the invocation in which it is called, or was: a late call may come when that has settled.
 */
export function invocationFinder(): () => Invocation | undefined {
  ;(globalThis as Shared)[FINDER] = true
  return () => existingProcess()?.current()
}

export type FunctionProcess = ReturnType<typeof createProcess>

/** How long a stream that its handler broke off may take to arrive. */
const STREAM_END_MS = 1_000

function createProcess(log: ReturnType<typeof createLog>) {
  const isMainThread = isInMainThread()
  const runtimeApi = ownRuntimeApi(isMainThread)
  /** Whether one invocation comes at a time, and the environment is frozen between them. */
  const isFrozen = !!runtimeApi && !isManagedInstances()
  /** Whether they come to the main thread. */
  const isAlone = isFrozen && isMainThread
  const mode = readCompanionMode()
  const streams = runtimeApi ? observeResponseStreams() : undefined
  let storage: AsyncLocalStorage<Scope> | undefined
  /** Which one runs this function is seen at init by what it has put there by then. */
  const client: RuntimeClient =
    streams && isRic3()
      ? observeRic3(streams, onEnd)
      : streams && isRic4()
        ? observeRic4(scopes(), onEnd, isAlone, log)
        : {}
  let takesPart = false
  /** Of the invocation in which we are first used. Its end is told twice, and so under one number. */
  let firstReporter: Reporter | undefined
  const unsettled = new Set<Invocation>()

  const base = {
    log,
    companion: noCompanion,
    /** Whether an invocation has begun: what has to be registered had to be by then. */
    hasBegun: !!client.firstUsedIn,
    /** The invocations that have not settled. */
    unsettled,
    /** Those with tasks that the deadline has kept from starting. */
    carriedOver: [] as Invocation[],
    open,
    scopes,
    /** The invocation in which the caller runs, or ran. */
    current: () => here()?.invocation,
    takePart,
    handedOff(deadline: number, invocation?: Invocation) {
      // The layer's companion runs it when this invocation has settled, or the environment ends.
      if (host.companion.name === 'layer' && invocation?.isHeld !== false) return undefined
      return (globalThis as Shared)[HANDED_OFF]?.run(log, deadline, invocation)
    },
    afterSettled() {
      for (const invocation of unsettled) if (invocation.isSettled()) unsettled.delete(invocation)
    },
    streaming: (requestId: string) => streams?.accepted(requestId),
  }
  // One object, for what ends the process is a part of it.
  const host = Object.assign(base, createProcessEnd(base, client, isMainThread, isAlone, runtimeApi))
  // With another client only the middleware tells the end of an invocation: without one a companion would wait in vain.
  if (client.runOf) takePart()
  return host

  /** A handler is wrapped: its invocations will be opened here. */
  function takePart(): void {
    if (takesPart) return
    const companion = chooseCompanion(log, client, isMainThread, isFrozen ? runtimeApi : undefined, mode)
    host.companion = companion
    takesPart = true
    log.debug(`companion: ${companion.name}`)
    if (HANDED_OFF in globalThis) companion.expectHandedOff?.()
    // In the middle of an invocation: its end may never be told, and is not waited for.
    if (client.runOf && client.firstUsedIn) firstReporter = companion.reporter?.(client.firstUsedIn)
    firstReporter?.settle()
  }

  function onEnd({ id, invocation }: Run): Promise<void> | undefined {
    host.hasBegun = true
    const accepted = streams?.accepted(id, STREAM_END_MS)
    const settled = invocation?.leave()
    // It has never reached our `before`, or not under its own id.
    if (invocation?.requestId !== id) void all([settled]).then(() => host.companion.reporter?.(id).settle())
    // RIC 4 does not wait for a stream that its handler broke off. Did it ask for `next` before that has arrived, Lambda
    // would give it the same event again.
    return (host.companion.name === 'gate' && settled) || accepted
  }

  // --- Where code runs

  /** In which scope anything runs. Made when it is first asked for: on nodejs22.x it may never be. */
  function scopes(): AsyncLocalStorage<Scope> {
    storage ??= new (builtIn('node:async_hooks').AsyncLocalStorage)()
    return storage
  }

  /** The scope of the caller; it may be left over from an earlier invocation. */
  function here(): Scope | undefined {
    let scope = storage ? storage.getStore() : client.runOf?.()
    // The outer handler goes on in the scope that an inner one has entered, also when that one is over.
    while (scope?.outer && scope.invocation?.isSettled()) scope = scope.outer
    return scope
  }

  // --- Opening an invocation

  function open(request: OpenRequest, options: OpenOptions) {
    host.hasBegun = true
    // In Lambda, but with nobody who would send invocations here.
    if (runtimeApi === '') log.warnOnce('WARN_NO_CLIENT', 'this process has no runtime client')
    // Where the client tells of each, its run says enough. But a late call to a finder must not be taken for the next one's.
    if (!client.runOf || FINDER in globalThis) scopes()
    const facts = request.context.lambdaContext ?? request.context
    const scope = client.runOf?.(facts.awsRequestId) ?? here()
    // A handler that another one calls is a part of the same invocation.
    const joined = findOpen(facts, scope)
    joined?.open()
    const invocation = joined ?? begin(request, facts, scope, options)
    const isEndTold = enter(invocation, scope)
    try {
      // Not enumerable: a context is compared in users' tests, and copied.
      const property = { configurable: true, writable: true, value: invocation.defer }
      Object.defineProperty(request.context, 'defer', property)
    } catch {
      log.warnOnce('WARN_FROZEN_CONTEXT', 'the context is frozen and gets no defer()')
    }
    return openedRequest(invocation, !!joined, isEndTold, options)
  }

  /**
   * The one in which a handler is called, with a context made up or that of the outer one. On Lambda that is as good as a name,
   * so tasks are covered too; elsewhere one context may serve one invocation after the other.
   */
  function findOpen(facts: LambdaFacts, scope: Scope | undefined): Invocation | undefined {
    for (const own of unsettled)
      if (own.context === facts && (runtimeApi ? !own.isSettled() : own.isInHandler())) return own
    // Where others run beside it, only the client's own scope tells whose it is: what we have entered goes on in its caller.
    return (isAlone || scope?.id) && scope?.invocation?.isOpen() ? scope.invocation : undefined
  }

  function begin(request: OpenRequest, facts: LambdaFacts, scope: Scope | undefined, options: OpenOptions): Invocation {
    const { awsRequestId: requestId = '', tenantId } = facts
    const { companion } = host
    const isFirst = requestId === client.firstUsedIn
    const isHeld = !isFirst && holds(requestId, scope)
    if (!isHeld) companion.warnUnheld?.()
    if (!isHeld && options.withoutCompanion === 'throw') {
      throw new PostInvokeError('ERR_NO_COMPANION', 'Expected a companion, got none.')
    }
    const hold = {
      isHeld,
      isHeldByGate: isHeld && companion.name === 'gate',
      reporter: (isFirst && firstReporter) || companion.reporter?.(requestId, tenantId),
    }
    const invocation = createInvocation(request, facts, hold, options, host)
    unsettled.add(invocation)
    return invocation
  }

  /**
   * Whether tasks of an invocation that begins now can run after its response. A companion with a process holds while that is
   * there. The gate holds in the client's own run of this request, and only what is opened first in it. Without a companion
   * tasks run after the response where nothing is ever frozen.
   */
  function holds(requestId: string, scope: Scope | undefined): boolean {
    const { name, isGone } = host.companion
    if (isGone) return !isGone()
    return name === 'gate' ? scope?.id === requestId && !scope.invocation && !!client.isGated?.() : !isFrozen
  }

  /**
   * What is called from here on finds the invocation by its scope. The first invocation in a scope has that, each other one
   * gets a scope of its own.
   *
   * @returns whether the client tells the end of the scope.
   */
  function enter(invocation: Invocation, scope: Scope | undefined): boolean {
    if (scope && invocation.isOpen()) scope.invocation ??= invocation
    const outer = scope?.invocation?.isSettled() ? undefined : scope
    const own: Scope = scope?.invocation === invocation ? scope : { invocation, outer }
    if (own !== here()) storage?.enterWith(own)
    return own.id !== undefined
  }
}

/** @param hasJoined - Whether the invocation was there already: another handler has called the one of this request. */
function openedRequest(invocation: Invocation, hasJoined: boolean, isEndTold: boolean, options: OpenOptions) {
  const mustAwait = !invocation.isHeld && options.withoutCompanion === 'await'
  let hasEnded = false
  return {
    invocation,
    /** Whether hooks have to tell the end, or the answer has to wait for the tasks. */
    needsEnd: mustAwait || !isEndTold,
    /** The handler of this request or a middleware has thrown. Of one within another, that is the other's affair. */
    fail() {
      if (!hasJoined) invocation.fail()
    },
    /**
     * The handler of this request has ended. The answer waits for the promise, where nothing holds the environment after it.
     *
     * @param isGuessed - Whether hooks may still be running.
     */
    end(isGuessed?: boolean): Promise<void> | undefined {
      const before = mustAwait && !isGuessed ? invocation.drainBeforeAnswer() : undefined
      void endRequest(before, isGuessed)
      return before
    },
  }

  async function endRequest(before?: Promise<void>, isGuessed?: boolean) {
    if (before) await before
    if (hasEnded) return
    hasEnded = true
    if (!invocation.close() || isEndTold) return
    // Where the client tells nothing: it posts within two turns of the event loop after the handler, wrappers apart.
    await turn()
    await turn()
    if (!invocation.isInHandler() && invocation.isOpen()) void invocation.leave(isGuessed)
  }
}
