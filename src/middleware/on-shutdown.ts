// What still runs when Lambda ends the environment, after the tasks: hooks, and the disposal of resources. Only functions that
// import it carry it.
import { type Failure, PostInvokeError, quote, unexpected } from '../errors.ts'
import { trace } from './channels.ts'
import { checkOptions, text, wholeNumber } from './option-rules.ts'
import { functionProcess } from './process.ts'
import type { Hook, HookRunner } from './process-end.ts'
import { listenForRelay } from './signal-relay.ts'
import { isFunction, isThenable, now, withLimit } from './waits.ts'

/** What a shutdown hook is given. */
export type ShutdownContext = {
  /**
   * Aborted when the hook's `timeout` or the time of the whole shutdown is over; `signal.reason` is then a
   * `PostInvokeError` with code `ERR_SHUTDOWN_TIMEOUT`.
   */
  readonly signal: AbortSignal
  /** Milliseconds left for hooks: 50 fewer than Lambda gives. */
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

/**
 * Runs a hook when Lambda ends the environment: last in, first out, after the tasks that have not run. Call it at module
 * level: with the gate, what makes Lambda send SIGTERM has to be registered during init.
 *
 * There are 450 ms in all, 250 ms where an external extension is attached (the layer is one). A hook that fails or hangs
 * is logged and does not stop the others.
 *
 * @param hook - A function, or anything with `Symbol.asyncDispose` or `Symbol.dispose`.
 * @param options - `name` for log lines, `timeout` in milliseconds (default: all that is left).
 * @returns a function that takes the hook back.
 * @throws PostInvokeError with code `ERR_INVALID_HOOK`.
 *
 * @example
 * ```ts
 * import { onShutdown } from 'middy-post-invoke'
 * import { Pool } from 'pg'
 *
 * const pool = new Pool()
 * onShutdown(() => pool.end(), { name: 'pool' })
 * ```
 */
export const onShutdown = (hook: ShutdownHook, options?: OnShutdownOptions): (() => void) => {
  const { name, timeout } = check('onShutdown()', options)
  const run = isFunction(hook) ? hook : disposalOf(hook)
  if (!run) throw invalidHook('a function or a disposable to run at shutdown', hook)
  return add(run, name ?? ownName(hook), timeout)
}

/**
 * Something that is made once, at its first use, and disposed of when Lambda ends the environment: last made, first
 * disposed of.
 *
 * @param create - Makes it; may return a promise. One that fails is tried again at the next use.
 * @param dispose - Disposes of it. Default: its own `Symbol.asyncDispose` or `Symbol.dispose`.
 * @param options - `name` for log lines, `timeout` of the disposal in milliseconds.
 * @returns a function that gives it. Call it at module level to make it during init.
 * @throws PostInvokeError with code `ERR_INVALID_HOOK`.
 *
 * @example
 * ```ts
 * import middy from '@middy/core'
 * import postInvoke, { resource } from 'middy-post-invoke'
 *
 * const database = resource(connect, client => client.end())
 *
 * export const handler = middy()
 *   .use(postInvoke())
 *   .handler(async (_event, context) => {
 *     const client = await database()
 *     context.defer(() => client.query('insert into audit …'))
 *   })
 * ```
 */
export const resource = <Resource>(
  create: () => Resource,
  dispose?: (resource: Awaited<Resource>) => unknown,
  options?: OnShutdownOptions,
): (() => Resource) => {
  if (!isFunction(create)) throw invalidHook('a function that makes the resource', create)
  if (dispose !== undefined && !isFunction(dispose)) {
    throw invalidHook('a function that disposes of the resource', dispose)
  }
  const { name = create.name || 'resource', timeout } = check('resource()', options)
  functionProcess().arm(runner)
  let made: any
  /** While it is there. */
  let withdraw: (() => void) | undefined
  return use

  function use() {
    if (withdraw) return made
    made = create()
    if (isThenable(made)) {
      const promise = Promise.resolve(made).then(refuseLasting)
      promise.catch(() => {
        if (made === promise) forget() // and not what has been made since
      })
      made = promise
    } else refuseLasting(made)
    // Made or not when the environment ends: what is on its way is waited for.
    withdraw = add(disposeOfIt, name, timeout, true)
    return made
  }

  function forget() {
    withdraw?.()
    withdraw = undefined
  }

  async function disposeOfIt() {
    forget() // what asks for it from here on gets another one
    const resource = await made
    return dispose ? dispose(resource) : disposalOf(resource)?.()
  }

  function refuseLasting(resource: unknown) {
    if (!dispose && !disposalOf(resource))
      throw invalidHook('a disposable, or a function that disposes of it', resource)
    return resource
  }
}

function add(run: Hook['run'], name: string | undefined, timeout = Infinity, isOfResource = false): () => void {
  const { hooks, arm } = functionProcess()
  const hook: Hook = { name: name ?? `hook ${hooks.length + 1}`, run, timeout, isOfResource }
  hooks.push(hook)
  arm(runner)
  return () => {
    const index = hooks.indexOf(hook)
    if (index >= 0) hooks.splice(index, 1)
  }
}

const runner: HookRunner = {
  async run(hooks, until) {
    const notRun: string[] = []
    for (let hook = hooks.pop(); hook; hook = hooks.pop()) {
      if (now() < until) await runHook(hook, until)
      else notRun.push(hook.name)
    }
    if (notRun.length > 0) {
      functionProcess().log.error(`the shutdown's time is over; not run: ${notRun.map(name => quote(name)).join(', ')}`)
    }
    return notRun
  },
  relay: listenForRelay,
}

/** Never rejects: what fails is logged. */
async function runHook({ name, run, timeout }: Hook, until: number): Promise<void> {
  const controller = new AbortController()
  const left = () => Math.max(0, until - now())
  const limit = Math.min(timeout, left())
  const traced = trace('hook', () => ({ name }))
  const late = new PostInvokeError(
    'ERR_SHUTDOWN_TIMEOUT',
    `Expected the shutdown hook ${quote(name)} to end within ${Math.round(limit)} ms.`,
  )
  let failure: Failure | undefined = { error: late } // until it has ended
  async function work() {
    await undefined // first the timer: a hook may take its time before it returns a promise
    try {
      const given = { signal: controller.signal, getRemainingTimeInMillis: left }
      await (traced ? traced.run(() => run(given)) : run(given))
      failure = undefined
    } catch (error) {
      failure = { error }
    }
  }
  // During a shutdown this may be all that keeps the event loop going.
  await withLimit(limit, true, work())
  if (failure?.error === late) controller.abort(late)
  traced?.end({ status: failure ? 'failed' : 'completed', ...failure })
  if (failure) functionProcess().log.error(`shutdown hook ${quote(name)} failed:`, failure.error, { hook: name })
}

/** How a value disposes of itself, if it can. */
function disposalOf(value: any): (() => unknown) | undefined {
  const dispose: unknown = value?.[Symbol.asyncDispose] ?? value?.[Symbol.dispose]
  return isFunction(dispose) ? () => dispose.call(value) : undefined
}

/** What the author of a hook calls it: a function by its name, an object by its own, or its class. */
const ownName = (hook: any): string | undefined =>
  [hook.name, typeof hook === 'object' && hook.constructor?.name].find(
    name => name && typeof name === 'string' && name !== 'Object',
  )

const check = (call: string, options: unknown) =>
  checkOptions<OnShutdownOptions>(call, () => ({ name: text, timeout: wholeNumber(1) }), options, invalidHook)

function invalidHook(expected: string, given: unknown, data?: unknown): PostInvokeError {
  return unexpected('ERR_INVALID_HOOK', expected, given, data)
}
