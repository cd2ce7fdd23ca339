import type middy from '@middy/core'
import type { Context as LambdaContext } from 'aws-lambda'
import { describe } from '../errors.ts'
import { type Logger, logMethods } from '../log.ts'
import { functionProcess, type OpenInvocation, type WithoutCompanion } from './function-process.ts'
import type { InvocationOptions } from './invocation.ts'
import type { Defer } from './task.ts'
import { type OptionRule, validateOptions } from './validate-options.ts'

const name = 'middy-post-invoke'

/** How a middleware runs its tasks. All optional. An explicit `undefined` keeps the default. */
export type Options = {
  /** Which deferred task runs first: the last (`'lifo'`, the default) or the first (`'fifo'`). */
  order?: 'lifo' | 'fifo' | undefined
  /** How many tasks run at a time, at least 1. Default 1. */
  concurrency?: number | undefined
  /** Milliseconds after which a task's `signal` is aborted. Default: none but the function's deadline. */
  taskTimeout?: number | undefined
  /**
   * Milliseconds before the function's deadline at which all tasks are aborted, at least 100. Default 250. The companion
   * lets go 100 ms before the deadline.
   */
  deadlineMargin?: number | undefined
  /**
   * What becomes of tasks that time was up for before they could start: they run with the next invocation's or at
   * shutdown (`'carry'`), or are reported and gone (`'drop'`). Default: `'carry'` where the shutdown drain is on.
   */
  onDeadline?: 'carry' | 'drop' | undefined
  /** How many tasks are carried over at the most; of more, the oldest are reported and gone. Default 100. */
  maxCarried?: number | undefined
  /**
   * Called with each failure of a task, after it has been logged: with what the task threw, or a `PostInvokeError` when
   * its time was up, and with the task's name and request. A promise that it returns is waited for. Default: none.
   */
  onTaskError?: ((error: unknown, task: { name: string; awsRequestId: string }) => unknown) | undefined
  /**
   * What happens inside Lambda when no companion can hold the environment: tasks are awaited before the answer
   * (`'await'`, the default), run after it at their own risk (`'detach'`), or the invocation fails (`'throw'`).
   */
  withoutCompanion?: 'await' | 'detach' | 'throw' | undefined
  /**
   * The shutdown drain. `true`: on, also without an `onShutdown()` or `resource()` at init; what brings SIGTERM is then
   * registered. `false`: off, tasks and hooks do not run at shutdown. Default: on from the first of these, and where
   * SIGTERM comes by itself.
   */
  shutdown?: boolean | undefined
  /**
   * Where the log lines of this process go: the Logger of Powertools for AWS Lambda, or another. Default: the console. One
   * that fails is stepped in for by the console. POST_INVOKE_LOG_LEVEL decides all the same which lines there are.
   */
  logger?: Logger | undefined
}

/** The context of a handler behind the middleware: Lambda's own, and `defer`. */
export type Context = LambdaContext & {
  /** Defers a task until after the response. */
  defer: Defer
}

type Settings = InvocationOptions & { withoutCompanion: WithoutCompanion }

const defaults: Settings = {
  order: 'lifo',
  concurrency: 1,
  taskTimeout: undefined,
  deadlineMargin: 250,
  onDeadline: undefined,
  maxCarried: 100,
  onTaskError: undefined,
  withoutCompanion: 'await',
}

const optionRules: Readonly<Record<keyof Options, OptionRule>> = {
  order: ['lifo', 'fifo'],
  concurrency: 1,
  taskTimeout: 1,
  deadlineMargin: 100, // the companion lets go 100 ms before the deadline
  onDeadline: ['carry', 'drop'],
  maxCarried: 1,
  onTaskError: 'function',
  withoutCompanion: ['await', 'detach', 'throw'],
  shutdown: 'boolean',
  logger: value => (isLogger(value) ? undefined : 'a logger with the methods debug, warn and error'),
}

const isLogger = (value: unknown): boolean =>
  value !== null && logMethods.every(method => typeof (value as Partial<Logger>)[method] === 'function')

/**
 * Checks options without making a middleware of them, as Middy's own middlewares offer it.
 *
 * @param options - As for `postInvoke()`.
 * @throws TypeError that names the option and what it must be.
 *
 * @example
 * ```ts
 * import { postInvokeValidateOptions } from 'middy-post-invoke'
 *
 * postInvokeValidateOptions({ concurrency: 4 })
 * ```
 */
export const postInvokeValidateOptions = (options: Options = {}): void => {
  if (options === null || typeof options !== 'object' || Array.isArray(options)) {
    throw new TypeError(`Options must be an object, got ${describe(options)}`, { cause: { package: name } })
  }
  validateOptions(name, optionRules, withoutUndefined(options))
}

/**
 * Runs what the handler deferred after the response has left. Use it first, so that it is the outermost.
 *
 * @param options - How the tasks are run.
 * @returns the middleware, for `.use()`. It puts `defer` on the context.
 * @throws TypeError for a wrong option, `PostInvokeError` (`ERR_INVALID_VARIABLE`) for a wrong environment variable.
 *
 * @example
 * ```ts
 * import middy from '@middy/core'
 * import type { APIGatewayProxyEventV2, APIGatewayProxyStructuredResultV2 } from 'aws-lambda'
 * import postInvoke from 'middy-post-invoke'
 *
 * export const handler = middy<APIGatewayProxyEventV2, APIGatewayProxyStructuredResultV2>()
 *   .use(postInvoke())
 *   .handler(async (event, context) => {
 *     const order = await placeOrder(event)
 *     context.defer(({ signal }) => analytics.track('order', order, { signal }))
 *     return { statusCode: 201, body: JSON.stringify(order) }
 *   })
 * ```
 */
const postInvoke = (options: Options = {}): middy.MiddlewareObj<unknown, any, Error, Context> => {
  postInvokeValidateOptions(options)
  const settings = { ...defaults, ...withoutUndefined(options) } as Settings
  const host = functionProcess(options.logger)
  if (options.shutdown === true) host.shutdown.arm()
  if (options.shutdown === false) host.ignoreSigterm()
  // Invocations run side by side on Managed Instances: nothing of one may stand here.
  // Hence the request carries it, and no WeakMap: all that hangs off one lives on until V8 collects the whole heap.
  const postInvokeMiddlewareBefore = (request: middy.Request<unknown, any, Error, Context>): void => {
    if (carriedBy(request)[OPEN]) return // used twice on one handler: the first is enough
    const opened = host.open(request, settings)
    carriedBy(request)[OPEN] = opened
    request.context.defer = opened.invocation.defer
    if (!opened.isEndTold || mustAwait(opened)) watch(request)
  }

  const postInvokeMiddlewareAfter = (request: middy.Request<unknown, any, Error, Context>): Promise<void> | undefined =>
    finish(request)

  const postInvokeMiddlewareOnError = (
    request: middy.Request<unknown, any, Error, Context>,
  ): Promise<void> | undefined => finish(request)

  const finish = (request: { internal: object }): Promise<void> | undefined => {
    const opened = carriedBy(request)[OPEN]
    if (!opened) return undefined // onError runs also when a `before` ahead of ours threw
    const before = mustAwait(opened) ? opened.invocation.runBeforeAnswer() : undefined
    if (before) return before.then(() => opened.end())
    opened.end()
    return undefined
  }

  const mustAwait = ({ invocation }: OpenInvocation) => !invocation.isHeld && settings.withoutCompanion === 'await'

  /**
   * A value returned by another middleware's hook ends the request without `after` or `onError` of ours. Middy assigns it
   * to `response`, and awaits what stands there.
   */
  const watch = (request: middy.Request<unknown, any, Error, Context>) => {
    let { response } = request
    Object.defineProperty(request, 'response', {
      configurable: true,
      enumerable: true,
      get: () => response,
      set(value) {
        response = value
        if (!('earlyResponse' in request)) return
        const before = finish(request)
        if (before) response = before.then(() => value)
      },
    })
  }

  return {
    before: postInvokeMiddlewareBefore,
    after: postInvokeMiddlewareAfter,
    onError: postInvokeMiddlewareOnError,
  }
}

const OPEN = Symbol.for('middy-post-invoke/open')

const carriedBy = ({ internal }: { internal: object }) => internal as Record<symbol, OpenInvocation | undefined>

const withoutUndefined = (options: Options): Options =>
  Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined))

export default postInvoke
