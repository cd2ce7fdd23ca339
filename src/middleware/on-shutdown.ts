// What still runs when Lambda ends the environment, after the tasks: hooks, and the disposal of resources. Only functions that
// import it carry it.
import { describe, PostInvokeError, quote } from '../errors.ts'
import { trace } from './channels.ts'
import { checkOptions, text, wholeNumber } from './option-rules.ts'
import { functionProcess } from './process.ts'
import type { Hook, HookRunner } from './process-end.ts'
import { isRelayed, listenForRelay } from './signal-relay.ts'
import { clearTimeout, isThenable, resolvers, timer, whenSettled } from './waits.ts'

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
export const onShutdown = (hook: ShutdownHook, options?: OnShutdownOptions): (() => void) => add(hook, options)

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
  if (typeof create !== 'function') {
    throw invalidHook(`Expected a function that makes the resource, got ${describe(create)}.`, create)
  }
  if (dispose !== undefined && typeof dispose !== 'function') {
    throw invalidHook(`Expected a function that disposes of the resource, got ${describe(dispose)}.`, dispose)
  }
  const { name, timeout } = check('resource()', options)
  arm()
  let made: { readonly value: Resource } | undefined
  /** What asks for it from here on gets another one, and not one that is disposed of. */
  const disposing = (run: () => unknown) => () => {
    made = undefined
    return run()
  }
  return () => {
    if (made) return made.value
    const created = create()
    const disposed = { name: name ?? (create.name || 'resource'), timeout }
    if (!isThenable(created)) {
      const run = disposalOf(created as Awaited<Resource>, dispose)
      made = { value: created }
      add(disposing(run), disposed, true)
      return created
    }
    const value = Promise.resolve(created).then(resource => {
      disposalOf(resource, dispose)
      return resource
    }) as Resource & Promise<Awaited<Resource>>
    made = { value }
    // Made or not when the environment ends: what is on its way is waited for.
    const withdraw = add(
      disposing(async () => disposalOf(await value, dispose)()),
      disposed,
      true,
    )
    value.then(undefined, () => {
      made = undefined
      withdraw()
    })
    return value
  }
}

function disposalOf<Resource>(
  resource: Resource,
  dispose: ((resource: Resource) => unknown) | undefined,
): () => unknown {
  const disposal = dispose ? () => dispose(resource) : ownDisposal(resource)
  if (disposal) return disposal
  throw invalidHook(
    `Expected a resource with Symbol.asyncDispose or Symbol.dispose, or a function for it, got ${describe(resource)}.`,
    resource,
  )
}

const arm = () => functionProcess().arm(runner)

function add(hook: unknown, options: unknown, isOfResource = false): () => void {
  const { name, timeout } = check('onShutdown()', options)
  const run = runOf(hook)
  const { hooks } = functionProcess()
  const added: Hook = {
    name: name ?? (ownName(hook as object) || `hook ${hooks.length + 1}`),
    run,
    timeout: timeout ?? Number.POSITIVE_INFINITY,
    isOfResource,
  }
  hooks.push(added)
  arm()
  return () => {
    const index = hooks.indexOf(added)
    if (index >= 0) hooks.splice(index, 1)
  }
}

const runner: HookRunner = {
  async run(hooks, left, keepsHooks) {
    const kept = keepsHooks ? hooks.filter(({ isOfResource }) => !isOfResource) : []
    const notRun: string[] = []
    for (let hook = hooks.pop(); hook !== undefined; hook = hooks.pop()) {
      if (left() > 0) await runHook(hook, left)
      else notRun.push(hook.name)
    }
    hooks.push(...kept)
    if (notRun.length > 0) {
      functionProcess().log.error(`the shutdown's time is over; not run: ${notRun.map(name => quote(name)).join(', ')}`)
    }
    return notRun
  },
  relay(drain) {
    if (!isRelayed()) {
      return 'signals go to the main thread: NODE_OPTIONS=--import middy-post-invoke/preload relays them'
    }
    listenForRelay(drain)
    return undefined
  },
}

/** Never rejects: what fails is logged. */
async function runHook({ name, run, timeout }: Hook, left: () => number): Promise<void> {
  const controller = new AbortController()
  const limit = Math.min(timeout, left())
  const traced = trace('hook', () => ({ name }))
  const { promise, resolve: end } = resolvers<{ error: unknown } | undefined>()
  // During a shutdown this may be all that keeps the event loop going.
  const timeLimit = timer(limit, true, () => {
    const error = new PostInvokeError(
      'ERR_SHUTDOWN_TIMEOUT',
      `Expected the shutdown hook ${quote(name)} to end within ${Math.round(limit)} ms.`,
    )
    controller.abort(error)
    end({ error })
  })
  try {
    const given = { signal: controller.signal, getRemainingTimeInMillis: left }
    const result = traced ? traced.run(() => run(given)) : run(given)
    if (isThenable(result)) {
      whenSettled(
        result,
        () => end(undefined),
        error => end({ error }),
      )
    } else end(undefined)
  } catch (error) {
    end({ error })
  }
  const failure = await promise
  clearTimeout(timeLimit)
  traced?.end({ status: failure ? 'failed' : 'completed', ...failure })
  if (failure) {
    functionProcess().log.error(`shutdown hook ${quote(name)} failed:`, failure.error, { hook: name })
  }
}

function runOf(hook: unknown): Hook['run'] {
  if (typeof hook === 'function') return hook as Hook['run']
  const own = ownDisposal(hook)
  if (own) return own
  throw invalidHook(
    `Expected a function, or an object with Symbol.asyncDispose or Symbol.dispose, to run at shutdown, got ${describe(hook)}.`,
    hook,
  )
}

/** How a value disposes of itself, if it can. */
const ownDisposal = (value: unknown): (() => unknown) | undefined => {
  const disposable = value as Partial<AsyncDisposable & Disposable> | null | undefined
  const dispose = disposable?.[Symbol.asyncDispose] ?? disposable?.[Symbol.dispose]
  return typeof dispose === 'function' ? () => dispose.call(disposable) : undefined
}

/** What the author of a hook calls it: a function by its name, an object by its own, or its class. */
function ownName(hook: { name?: unknown }): string | undefined {
  const { name } = hook
  if (typeof name === 'string' && name !== '') return name
  const className: unknown = typeof hook === 'object' ? hook.constructor?.name : undefined
  return typeof className === 'string' && className !== 'Object' ? className : undefined
}

const check = (call: string, options: unknown) =>
  checkOptions<OnShutdownOptions>(call, () => ({ name: text, timeout: wholeNumber(1) }), options, invalidHook)

const invalidHook = (message: string, data: unknown) => new PostInvokeError('ERR_INVALID_HOOK', message, data)
