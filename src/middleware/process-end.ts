// The end of the process: what it says of unfinished tasks when it exits, and what still runs between SIGTERM and the end of
// the environment. https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-shutdown
import { builtIn } from '../built-in.ts'
import type { Log } from '../log.ts'
import { trace } from './channels.ts'
import { registerForSigterm } from './companion-pipe.ts'
import type { Companion } from './companion-process.ts'
import { ABORT_GRACE_MS } from './deferred-task.ts'
import { endProcess } from './end-process.ts'
import {
  type Invocation,
  type InvocationHost,
  logUnfinished,
  newTime,
  RELEASE_MARGIN_MS,
  type Time,
} from './invocation.ts'
import { isRic3 } from './ric3.ts'
import type { RuntimeClient } from './runtime-client.ts'
import { all, clearTimeout, now, timer } from './waits.ts'

/** One hook of `onShutdown()`. */
export type Hook = {
  readonly name: string
  readonly run: (context: { signal: AbortSignal; getRemainingTimeInMillis(): number }) => unknown
  readonly timeout: number
  /** Whether it disposes of what `resource()` has made, and makes anew when it is asked for again. */
  readonly isOfResource: boolean
}

/** What hooks need, where `onShutdown()` is imported. */
export type HookRunner = {
  /**
   * Runs them all, the last first, and takes them out. It never rejects.
   *
   * @param until - The end of the process, on the clock of `now()`.
   * @returns the names of those that there was no time for.
   */
  run(hooks: Hook[], until: number): Promise<string[]>
  /** Brings SIGTERM to a worker thread. @returns why it will not come, or `''`. */
  relay(drain: () => Promise<void>): string
}

/** Kept back of the time: for the last log lines, and for a signal that came late. */
const MARGIN_MS = 50

/** How much of the time hooks have for themselves: tasks come first, and may take the rest. */
const HOOKS_SHARE = 0.4

export function createProcessEnd(
  host: Pick<InvocationHost, 'log' | 'unsettled' | 'carriedOver' | 'handedOff'> & {
    readonly companion: Companion
    readonly hasBegun: boolean
  },
  client: RuntimeClient,
  isMainThread: boolean,
  isAlone: boolean,
  runtimeApi: string | undefined,
) {
  /** The last one runs first, also of several copies of this package, as bundlers make them. */
  const hooks: Hook[] = []
  let runner: HookRunner | undefined
  let isWatching = false
  /** Why SIGTERM will not come: `undefined` before anybody has asked for it, `''` where it comes. */
  let whyNot: string | undefined
  let isDisarmed = false
  /** When tasks of an open invocation are next to be named, and whose have been. */
  let dueAt = Infinity
  let dueTimer: NodeJS.Timeout | undefined
  const wereDue = new WeakSet<Invocation>()
  return {
    hooks,
    onDefer,
    arm,
    drain,
    canCarry,
    /** `shutdown: false`: no drain, even with hooks. */
    disarm() {
      isDisarmed = true
    },
  }

  /** Whether SIGTERM will come and run the drain. */
  function canCarry(): boolean {
    return whyNot === '' && !isDisarmed
  }

  /** From the first deferred task on: a process that ends while tasks are unfinished says so. */
  function onDefer(invocation: Invocation): void {
    if (runtimeApi && !isWatching) {
      isWatching = true
      process.on('exit', onExit)
      if (isRic3()) {
        // It posts uncaught errors on the connection on which it waits for the next invocation. That can end the process by
        // SIGSEGV, with no `exit` event. Its own listeners, which come next, do so; ours handles nothing.
        process.on('uncaughtExceptionMonitor', onUncaught)
        if (process.listenerCount('unhandledRejection') > 0) process.prependListener('unhandledRejection', onUncaught)
      }
      // A function that times out is ended by SIGTERM too, where it comes by itself.
      if (host.companion.reporter && !isDisarmed) arm()
    }
    // Where the function times out, a companion's process names the tasks after that, or this one does at SIGTERM. Without
    // either, this one names them before.
    if (!host.companion.reporter && !canCarry() && invocation.isOpen()) nameInTime(invocation)
  }

  /** One timer for all, and not one for each: to make one takes as long as all else in a `defer()`. */
  function nameInTime(invocation: Invocation): void {
    const left = invocation.remainingTime() - RELEASE_MARGIN_MS
    const due = now() + left
    if (dueAt <= due) return
    clearTimeout(dueTimer)
    dueAt = due
    dueTimer = timer(left, false, nameWhoIsDue)
  }

  function nameWhoIsDue() {
    dueAt = Infinity
    for (const invocation of host.unsettled) {
      if (!invocation.isOpen() || wereDue.has(invocation)) continue
      if (invocation.remainingTime() > RELEASE_MARGIN_MS) nameInTime(invocation)
      else if (logUnfinished(host.log.error, 'the function is about to time out', invocation)) wereDue.add(invocation)
    }
  }

  function onExit() {
    logAll('the process ends')
    if (isAlone && client.isBusy?.() === false) endProcess()
  }

  function onUncaught() {
    logAll('an uncaught error is about to end the process')
  }

  function logAll(what: string, write: Log['error'] = host.log.errorAtOnce) {
    for (const invocation of host.unsettled) logUnfinished(write, what, invocation)
  }

  /** Sees to it that SIGTERM comes, and runs the drain then. */
  function arm(given?: HookRunner): void {
    runner ??= given
    whyNot ??= isMainThread ? listen() : runner?.relay(drain) // which the hooks bring along
    if (whyNot) host.log.warnOnce('WARN_NO_SIGTERM', `no SIGTERM will come (${whyNot})`)
  }

  /** @returns why SIGTERM will not come, or `''`. */
  function listen(): string {
    // Before all others: a `once` listener that has been called would be missing from the count in ours.
    process.prependOnceListener('SIGTERM', onSigterm)
    // Lambda sends it beside an extension only.
    if (!runtimeApi || host.companion.reporter || hasExternalExtension()) return ''
    if (host.hasBegun) return 'asked for after init'
    return process.env.POST_INVOKE_COMPANION === 'layer' ? 'the layer is not there' : registerForSigterm(runtimeApi)
  }

  function onSigterm() {
    // Others who listen have their own end in mind, and may not be done: then Lambda ends the process.
    const isLast = process.listenerCount('SIGTERM') === 0
    drain().finally(() => {
      if (isLast && isAlone) endProcess()
      if (isLast && !runtimeApi) endProcess('SIGTERM')
    })
  }

  /** What runs at SIGTERM: tasks, then hooks. It never rejects. */
  async function drain(): Promise<void> {
    if (isDisarmed) {
      // The signal comes for the hooks alone then, and no other process is there to name the tasks.
      if (runtimeApi && !host.companion.reporter) logAll('the environment ends')
      return
    }
    const budget = (hasExternalExtension() ? 300 : 500) - MARGIN_MS
    const until = now() + budget
    const tasksUntil = hooks.length > 0 ? until - budget * HOOKS_SHARE : until
    const traced = trace('shutdown', () => ({ budget, hooks: hooks.length }))
    traced?.run(() => {})
    const invocations = [...host.unsettled]
    host.carriedOver.length = 0
    const time = timeUntil(tasksUntil, onChange)
    // What has ended goes out of the companion's file, also where another invocation has lent its time.
    function onChange() {
      for (const invocation of invocations) invocation.tellUnfinished()
    }
    await all(invocations.map(invocation => invocation.drainWithin(time)))
    await host.handedOff(Date.now() + tasksUntil - now())
    const notRun = (await runner?.run(hooks, until)) ?? []
    logAll('the environment ends', host.log.error) // also what was deferred while hooks ran
    traced?.end({ notRun })
  }

  function hasExternalExtension(): boolean {
    try {
      return host.companion.name === 'layer' || builtIn('node:fs').readdirSync('/opt/extensions').length > 0
    } catch {
      return false
    }
  }
}

/** The time of the shutdown, which belongs to no invocation. */
export const timeUntil = (until: number, onChange?: () => void): Time =>
  newTime(until, until - Math.min(ABORT_GRACE_MS, (until - now()) / 2), until, onChange, true)
