// The shutdown drain: what still runs between SIGTERM and the end of the environment.
import { describe, PostInvokeError } from '../errors.ts'
import type { Log } from '../log.ts'
import { readCallOptions } from './call-options.ts'
import { trace } from './channels.ts'
import { isThenable } from './task.ts'

/** What a shutdown hook is given. */
export type ShutdownContext = {
  /**
   * Aborted when the hook's `timeout` or the time of the whole shutdown is over; `signal.reason` is then a
   * `PostInvokeError` with code `ERR_SHUTDOWN_TIMEOUT`.
   */
  readonly signal: AbortSignal
  /** Milliseconds until Lambda ends the process. */
  getRemainingTimeInMillis(): number
}

/** A function, or anything with `Symbol.asyncDispose` or `Symbol.dispose`: a connection pool, a file handle. */
export type ShutdownHook = ((context: ShutdownContext) => unknown) | AsyncDisposable | Disposable

/** How a shutdown hook is to run. All optional. */
export type OnShutdownOptions = {
  /** Names the hook in log lines. Default: the function's or the object's own name. */
  name?: string | undefined
  /** Milliseconds after which the hook's `signal` is aborted and the next one runs, above 0. Default: what is left. */
  timeout?: number | undefined
}

export type ShutdownHost = {
  readonly log: Log
  /** Milliseconds from SIGTERM until Lambda kills the process. */
  budget(): number
  /** Makes Lambda send SIGTERM at all, and calls back when it comes. Returns why it will not, or `undefined`. */
  onSigterm(drain: () => Promise<void>): string | undefined
  /** Runs the tasks that have not run. Resolves within `milliseconds`. */
  drainTasks(milliseconds: number): Promise<void>
}

type Hook = {
  readonly name: string
  readonly run: (context: ShutdownContext) => unknown
  readonly timeout: number
  /** Whether it disposes of what `resource()` has made, and makes anew when it is asked for again. */
  readonly isOfResource: boolean
}

/** Kept back from the budget: for the last log lines, and for a signal that came late. */
const MARGIN_MS = 50

/** How much of the time tasks may take where hooks wait behind them. */
const TASKS_SHARE = 0.6

/** The hooks of this process, and its SIGTERM. */
export class Shutdown {
  readonly #host: ShutdownHost
  /** The last one runs first. */
  readonly hooks: Hook[] = []
  /** Whether a SIGTERM would run the drain. */
  isArmed = false

  constructor(host: ShutdownHost) {
    this.#host = host
  }

  /** @returns a function that takes the hook back. */
  add(hook: unknown, options: unknown, isOfResource = false): () => void {
    const added = { ...validateHook(hook, options, this.hooks.length + 1), isOfResource }
    this.hooks.push(added)
    this.arm()
    return () => {
      const index = this.hooks.indexOf(added)
      if (index >= 0) this.hooks.splice(index, 1)
    }
  }

  /** Sees to it that SIGTERM comes, and listens for it. */
  arm(): void {
    if (this.isArmed) return
    this.isArmed = true
    const reason = this.#host.onSigterm(() => this.drain())
    if (reason !== undefined) {
      this.#host.log.warnOnce('sigterm', `no SIGTERM will come (${reason}): shutdown hooks will not run`)
    }
  }

  /** Never rejects: what fails is logged. */
  async drain(): Promise<void> {
    const budget = this.#host.budget() - MARGIN_MS
    const end = performance.now() + budget
    const traced = trace('shutdown', () => ({ budget, hooks: this.hooks.length }))
    traced?.run(() => {})
    const notRun = await this.#drainWithin(() => Math.max(0, end - performance.now()))
    if (notRun.length > 0) {
      this.#host.log.error(
        `the shutdown's time is over; not run: ${notRun.map(name => JSON.stringify(name)).join(', ')}`,
      )
    }
    traced?.end({ notRun })
  }

  /** @returns the names of the hooks that there was no time for. */
  async #drainWithin(left: () => number): Promise<string[]> {
    await this.#host.drainTasks(this.hooks.length > 0 ? left() * TASKS_SHARE : left())
    for (let hook = this.hooks.pop(); hook !== undefined; hook = this.hooks.pop()) {
      if (left() === 0) return [hook, ...this.hooks.reverse()].map(({ name }) => name)
      await this.#run(hook, left)
    }
    return []
  }

  async #run({ name, run, timeout }: Hook, left: () => number): Promise<void> {
    const controller = new AbortController()
    const limit = Math.min(timeout, left())
    const late = Promise.withResolvers<void>()
    const traced = trace('hook', () => ({ name }))
    // Ref'd: during a shutdown this may be all that keeps the event loop going.
    const timer = setTimeout(() => {
      const error = new PostInvokeError(
        'ERR_SHUTDOWN_TIMEOUT',
        `Expected the shutdown hook ${JSON.stringify(name)} to end within ${Math.round(limit)} ms.`,
      )
      controller.abort(error)
      late.reject(error)
    }, limit)
    try {
      const given = { signal: controller.signal, getRemainingTimeInMillis: left }
      const result = traced ? traced.run(() => run(given)) : run(given)
      if (isThenable(result)) await Promise.race([result, late.promise])
      traced?.end({ status: 'completed' })
    } catch (error) {
      traced?.end({ status: 'failed', error })
      this.#host.log.error(`shutdown hook ${JSON.stringify(name)} failed:`, error, { hook: name })
    } finally {
      clearTimeout(timer)
      late.promise.catch(() => {})
    }
  }
}

const OPTION_NAMES = ['name', 'timeout']

const validateHook = (hook: unknown, options: unknown, count: number): Omit<Hook, 'isOfResource'> => {
  const { name, timeout } = readOptions('onShutdown()', options)
  const run = readHook(hook)
  return {
    name: name ?? (ownName(hook as object) || `hook ${count}`),
    run,
    timeout: timeout ?? Number.POSITIVE_INFINITY,
  }
}

const readHook = (hook: unknown): Hook['run'] => {
  if (typeof hook === 'function') return hook as Hook['run']
  const own = ownDisposal(hook)
  if (own) return own
  throw invalidHook(
    `Expected a function, or an object with Symbol.asyncDispose or Symbol.dispose, to run at shutdown, got ${describe(hook)}`,
    hook,
  )
}

/** How a value disposes of itself, if it can. */
export const ownDisposal = (value: unknown): (() => unknown) | undefined => {
  const disposable = value as Partial<AsyncDisposable & Disposable> | null | undefined
  const dispose = disposable?.[Symbol.asyncDispose] ?? disposable?.[Symbol.dispose]
  return typeof dispose === 'function' ? () => dispose.call(disposable) : undefined
}

/** What the author of a hook calls it: a function by its name, an object by its own, or its class. */
const ownName = (hook: { name?: unknown }): string | undefined => {
  const { name } = hook
  if (typeof name === 'string' && name !== '') return name
  const className: unknown = typeof hook === 'object' ? hook.constructor?.name : undefined
  return typeof className === 'string' && className !== 'Object' ? className : undefined
}

/** @param call - Who was given the options. */
export const readOptions = (call: string, options: unknown): OnShutdownOptions =>
  readCallOptions(call, 'hook', OPTION_NAMES, options, invalidHook)

const invalidHook = (message: string, data: unknown) => new PostInvokeError('ERR_INVALID_HOOK', `${message}.`, data)
