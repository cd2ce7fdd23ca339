import { describe, PostInvokeError } from '../errors.ts'
import { functionProcess } from './function-process.ts'
import { type OnShutdownOptions, ownDisposal, readOptions, type ShutdownHook } from './shutdown.ts'
import { isThenable } from './task.ts'

/**
 * Runs a hook when Lambda ends the environment: last in, first out, after the tasks that have not run. Call it at module
 * level: without the layer, what makes Lambda send SIGTERM has to be registered during init.
 *
 * There are 500 ms in all, 300 ms where an external extension is attached (the layer is one). A hook that fails or hangs
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
export const onShutdown = (hook: ShutdownHook, options?: OnShutdownOptions): (() => void) =>
  functionProcess().shutdown.add(hook, options)

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
    throw new PostInvokeError(
      'ERR_INVALID_HOOK',
      `Expected a function that makes the resource, got ${describe(create)}.`,
    )
  }
  if (dispose !== undefined && typeof dispose !== 'function') {
    throw new PostInvokeError(
      'ERR_INVALID_HOOK',
      `Expected a function that disposes of the resource, got ${describe(dispose)}.`,
    )
  }
  const { name, timeout } = readOptions('resource()', options)
  const { shutdown } = functionProcess()
  shutdown.arm()
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
      shutdown.add(disposing(run), disposed, true)
      return created
    }
    const value = Promise.resolve(created).then(resource => {
      disposalOf(resource, dispose)
      return resource
    }) as Resource & Promise<Awaited<Resource>>
    made = { value }
    // Made or not when the environment ends: what is on its way is waited for.
    const withdraw = shutdown.add(
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

const disposalOf = <Resource>(
  resource: Resource,
  dispose: ((resource: Resource) => unknown) | undefined,
): (() => unknown) => {
  const disposal = dispose ? () => dispose(resource) : ownDisposal(resource)
  if (disposal) return disposal
  throw new PostInvokeError(
    'ERR_INVALID_HOOK',
    `Expected a resource with Symbol.asyncDispose or Symbol.dispose, or a function that disposes of it, got ${describe(resource)}.`,
  )
}
