// What the Middy middleware and the wrapper of plain handlers share: the options, and how an invocation is opened.
import type { Context as LambdaContext } from 'aws-lambda'
import { describe } from '../errors.ts'
import { type Logger, logMethods } from '../log.ts'
import type { MetricsOptions } from '../metrics.ts'
import { functionProcess, type OpenInvocation, type OpenRequest, type WithoutCompanion } from './function-process.ts'
import type { InvocationOptions } from './invocation.ts'
import { provideRequestContext } from './request-context.ts'
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
   * Whether `waitUntil` of `@vercel/functions`, Next's `after()` and libraries that look where these do find the invocation.
   * What they are given is deferred. Default `true`. A request context that is there already is never replaced.
   */
  waitUntil?: boolean | undefined
  /**
   * Where the log lines of this process go: the Logger of Powertools for AWS Lambda, or another. Default: the console. One
   * that fails is stepped in for by the console. POST_INVOKE_LOG_LEVEL decides all the same which lines there are.
   */
  logger?: Logger | undefined
  /**
   * Writes a line of CloudWatch's embedded metric format for each invocation that was held: how long, and how many tasks
   * were run, have failed and were carried over. `true`: with the defaults of `MetricsOptions`. Default: none.
   */
  metrics?: boolean | MetricsOptions | undefined
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
  waitUntil: 'boolean',
  metrics: value => (areMetrics(value) ? undefined : METRICS),
  logger: value => (isLogger(value) ? undefined : 'a logger with the methods debug, warn and error'),
}

const METRICS = 'true, or { namespace?: text, dimensions?: { name: text } }, as CloudWatch takes them'

const areMetrics = (value: unknown): boolean => {
  if (!isObject(value)) return typeof value === 'boolean'
  const { namespace = 'a', dimensions = { a: 'a' }, ...others } = value
  if (!isObject(dimensions)) return false
  const entries = Object.entries(dimensions)
  return (
    Object.keys(others).length === 0 &&
    isText(namespace, 255) &&
    entries.length > 0 &&
    entries.length <= 30 &&
    entries.every(([name, text]) => isText(name, 250) && isText(text, 1_024))
  )
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  value !== null && typeof value === 'object' && !Array.isArray(value)

/** https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDatum.html */
const isText = (value: unknown, longest: number): boolean =>
  typeof value === 'string' && value.length <= longest && /^[^:]/.test(value)

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
  if (!isObject(options)) {
    throw new TypeError(`Options must be an object, got ${describe(options)}`, { cause: { package: name } })
  }
  validateOptions(name, optionRules, withoutUndefined(options))
}

/**
 * What the middleware and the wrapper of plain handlers share.
 *
 * @returns a function that opens the invocation of a request, and puts `defer` on its context.
 */
export const createOpen = (options: Options = {}) => {
  postInvokeValidateOptions(options)
  const settings = { ...defaults, ...withoutUndefined(options) } as Settings
  if (options.metrics) settings.onHold = loadMetrics(options.metrics === true ? {} : options.metrics)
  const host = functionProcess(options.logger)
  if (options.shutdown === true) host.shutdown.arm()
  if (options.shutdown === false) host.ignoreSigterm()
  if (options.waitUntil !== false) provideRequestContext()
  return (request: OpenRequest): OpenInvocation => {
    const opened = host.open(request, settings)
    ;(request.context as Context).defer = opened.invocation.defer
    return opened
  }
}

/** Loading begins now, at init, and has ended when the first hold has. */
const loadMetrics = (options: MetricsOptions): NonNullable<InvocationOptions['onHold']> => {
  const loaded = import('../metrics.ts').then(({ holdMetrics }) => holdMetrics(options))
  loaded.catch(() => {}) // told with each hold
  return async hold => (await loaded)(hold)
}

const withoutUndefined = (options: Options): Options =>
  Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined))
