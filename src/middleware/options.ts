// The options of postInvoke() and withPostInvoke(): what each means, its default, and what it must be.
import { type Logger, logMethods } from '../log.ts'
import {
  aBoolean,
  aFunction,
  checkOptions,
  invalidOption,
  type OptionRule,
  oneOf,
  wholeNumber,
  withMethods,
} from './option-rules.ts'
import type { OpenOptions } from './process.ts'

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
   * registered. `false`: off, tasks and hooks do not run at shutdown. Default: on with the layer and the internal
   * extension, else from the first `onShutdown()` or `resource()`.
   */
  shutdown?: boolean | undefined
  /**
   * Lets `waitUntil` of `@vercel/functions`, Next's `after()` and libraries that look in the same places find the invocation.
   * What they are given is deferred. Default `false`: some libraries take the global that this needs for Vercel itself, and
   * then wait for nothing. A request context that is there already is never replaced.
   */
  waitUntil?: boolean | undefined
  /**
   * Where the log lines of this process go: the Logger of Powertools for AWS Lambda, or another. Default: the console, which
   * also takes a line where it fails. POST_INVOKE_LOG_LEVEL still decides which lines there are.
   */
  logger?: Logger | undefined
}

/** Of those that have one. */
const defaults: Partial<OpenOptions> = {
  order: 'lifo',
  concurrency: 1,
  deadlineMargin: 250,
  maxCarried: 100,
  withoutCompanion: 'await',
}

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

const check = (options: unknown): Options => checkOptions<Options>('postInvoke()', rules, options, invalidOption)

/** @throws TypeError (`ERR_INVALID_OPTION`) that names the option and what it must be. */
export const withDefaults = (options: unknown): OpenOptions & Pick<Options, 'shutdown' | 'waitUntil' | 'logger'> =>
  ({ ...defaults, ...check(options) }) as OpenOptions

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
