// What the Middy middleware and the wrapper of plain handlers share: the options, and how an invocation is opened.
import type { Context as LambdaContext } from 'aws-lambda'
import { type Logger, logMethods } from '../log.ts'
import type { Defer } from './defer-input.ts'
import type { InvocationOptions } from './invocation.ts'
import {
  aBoolean,
  aFunction,
  checkOptions,
  invalidOption,
  type OptionRule,
  oneOf,
  wholeNumber,
  withMethods,
} from './options.ts'
import { functionProcess, type OpenedInvocation, type OpenRequest, type WithoutCompanion } from './process.ts'
import { provideVercelContext } from './vercel-context.ts'

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
   * What becomes of tasks that time was up for before they could start: they run after the next invocation's or at
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
   * What they are given is deferred. Default `false`: some libraries take the global that this needs for Vercel itself, and
   * then wait for nothing. A request context that is there already is never replaced.
   */
  waitUntil?: boolean | undefined
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

/** Of those that have one. */
const defaults: Partial<Settings> = {
  order: 'lifo',
  concurrency: 1,
  deadlineMargin: 250,
  maxCarried: 100,
  withoutCompanion: 'await',
}

/** Not made at load: most functions have no options. */
const rules = (): Readonly<Record<keyof Options, OptionRule>> => ({
  order: oneOf('lifo', 'fifo'),
  concurrency: wholeNumber(1),
  taskTimeout: wholeNumber(1),
  deadlineMargin: wholeNumber(100), // the companion lets go 100 ms before the deadline
  onDeadline: oneOf('carry', 'drop'),
  maxCarried: wholeNumber(1),
  onTaskError: aFunction,
  withoutCompanion: oneOf('await', 'detach', 'throw'),
  shutdown: aBoolean,
  waitUntil: aBoolean,
  logger: withMethods(...logMethods),
})

const check = (options: unknown): Options =>
  options === undefined ? {} : checkOptions<Options>('postInvoke()', rules(), options, invalidOption)

/**
 * Checks options without making a middleware of them, as Middy's own middlewares offer it.
 *
 * @param options - As for `postInvoke()`.
 * @throws TypeError (`ERR_INVALID_OPTION`) that names the option and what it must be.
 *
 * @example
 * ```ts
 * import { postInvokeValidateOptions } from 'middy-post-invoke'
 *
 * postInvokeValidateOptions({ concurrency: 4 })
 * ```
 */
export const postInvokeValidateOptions = (options?: Options): void => void check(options)

/** @returns a function that opens the invocation of a request, and puts `defer` on its context. */
export function createOpener(options?: Options): (request: OpenRequest) => OpenedInvocation {
  const { shutdown, waitUntil, logger, ...given } = check(options)
  const settings = { ...defaults, ...given } as Settings
  const host = functionProcess(logger)
  host.takePart()
  if (shutdown === true) host.end.arm()
  if (shutdown === false) host.end.disarm()
  if (waitUntil) provideVercelContext()
  return request => {
    const opened = host.open(request, settings)
    const { defer } = opened.invocation
    try {
      // Not enumerable: a context is compared in users' tests, and copied.
      Object.defineProperty(request.context, 'defer', { configurable: true, writable: true, value: defer })
    } catch {
      host.log.warnOnce('WARN_FROZEN_CONTEXT', 'the context is frozen and gets no defer()')
    }
    return opened
  }
}
