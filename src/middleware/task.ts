// What users write and give: a task, its options, and what it is handed when it runs.
import { describe, PostInvokeError } from '../errors.ts'
import { readCallOptions } from './call-options.ts'

/** What a task is called with. */
export type TaskContext = {
  /**
   * Aborted when the task's `timeout` is over, and `deadlineMargin` before the function's deadline. Pass it on to what
   * can be cancelled; `signal.reason` is a `PostInvokeError`. An aborted task has 100 ms to end; then it is reported and no
   * longer waited for.
   */
  readonly signal: AbortSignal
  /** The `name` given to `defer()`, else the function's own name. */
  readonly name: string
  /** The request that deferred the task. */
  readonly awsRequestId: string
  /** `'error'` when the handler or a middleware threw, also when an `onError` hook made a response of it. */
  readonly outcome: 'success' | 'error'
  /** What was thrown, where `outcome` is `'error'`. */
  readonly error: unknown
  /** Milliseconds until the function's deadline; `Infinity` where there is none (unit tests). */
  getRemainingTimeInMillis(): number
}

/**
 * Work for after the response: a function, called once the response has left, or a promise of work already under way,
 * whose end is then waited for.
 */
export type Task = ((context: TaskContext) => unknown) | PromiseLike<unknown>

/** How a task is to run. All optional. */
export type DeferOptions = {
  /** Names the task in log lines. Default: the function's own name. */
  name?: string | undefined
  /** Run it only when the invocation ended so. Default `'always'`. Not for promises, which run already. */
  on?: 'success' | 'error' | 'always' | undefined
  /** Milliseconds from the task's start to the abort of its `signal`, above 0. Default: the middleware's `taskTimeout`. */
  timeout?: number | undefined
}

/**
 * Defers a task until after the response. Tasks can defer further tasks. One that fails is logged, and the others run all
 * the same.
 *
 * @throws PostInvokeError `ERR_INVALID_TASK` for what is no task or no options, `ERR_NO_INVOCATION` once the invocation
 * has settled.
 */
export type Defer = (task: Task, options?: DeferOptions) => void

export type ValidTask = {
  readonly task: (context: TaskContext) => unknown
  readonly name: string | undefined
  readonly on: 'success' | 'error' | 'always'
  readonly timeout: number | undefined
  /** Of a promise: whether it has settled, and so needs no time any more. */
  readonly promise: { hasSettled: boolean } | undefined
}

/** Checks what `defer` was given, at the call: later nobody knows any more who gave it. */
export const validateTask = (task: unknown, options: unknown): ValidTask => {
  const { name, on = 'always', timeout } = readOptions(options)
  if (isThenable(task)) {
    if (on !== 'always') {
      throw invalidTask(
        `\`on: ${JSON.stringify(on)}\` needs a function: a promise is under way whatever the outcome`,
        task,
      )
    }
    const promise = { hasSettled: false }
    // Handled from now on: it may reject long before it is its turn.
    const outcome = new Promise(adopt => adopt(task)).then(
      () => {
        promise.hasSettled = true
        return undefined
      },
      (error: unknown) => {
        promise.hasSettled = true
        return { error }
      },
    )
    const waitForIt = async () => {
      const failure = await outcome
      if (failure) throw failure.error
    }
    return { task: waitForIt, name, on, timeout, promise }
  }
  if (typeof task !== 'function') {
    throw invalidTask(`Expected a function or a promise to defer, got ${describe(task)}. Wrap it: defer(() => …)`, task)
  }
  return { task: task as ValidTask['task'], name: name ?? (task.name || undefined), on, timeout, promise: undefined }
}

const OPTION_NAMES = ['name', 'on', 'timeout']

const readOptions = (options: unknown): DeferOptions => {
  const given: DeferOptions = readCallOptions('defer()', 'task', OPTION_NAMES, options, invalidTask)
  const on: unknown = given.on
  if (on !== undefined && on !== 'success' && on !== 'error' && on !== 'always') {
    throw invalidTask(`Expected the task's \`on\` to be 'success', 'error' or 'always', got ${describe(on)}`, options)
  }
  return given
}

const invalidTask = (message: string, data: unknown) => new PostInvokeError('ERR_INVALID_TASK', `${message}.`, data)

/** A promise of another realm or library is one too. */
export const isThenable = (value: unknown): value is PromiseLike<unknown> =>
  value !== null &&
  (typeof value === 'object' || typeof value === 'function') &&
  typeof (value as { then?: unknown }).then === 'function'
