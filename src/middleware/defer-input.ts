// What users give to defer(): a task and its options, checked at the call, and what the task is handed when it runs.
import { unexpected } from '../errors.ts'
import { type AsyncContext, asyncContext } from './async-context.ts'
import type { TaskMessage } from './channels.ts'
import { checkOptions, type OptionRule, oneOf, text, wholeNumber } from './option-rules.ts'
import { adopt, isFunction, isThenable } from './waits.ts'

/** What a task is called with. */
export type TaskContext = {
  /**
   * Aborted when the task's `timeout` is over, and `deadlineMargin` before the function's deadline. Pass it on to what
   * can be cancelled; `signal.reason` is a `PostInvokeError`. An aborted task has 100 ms to end; then it is reported and no
   * longer waited for.
   */
  readonly signal: AbortSignal
  /** The `name` given to `defer()`, else the function's own, else `task 1` by its place. */
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
  /** Names the task in log lines, which take 100 characters of it. Default: the function's own name, else `task 1` by its place. */
  name?: string | undefined
  /** Run it only when the invocation ended so. Default `'always'`. Not for promises, which run already. */
  on?: 'success' | 'error' | 'always' | undefined
  /** Milliseconds from the task's start to the abort of its `signal`, above 0. Default: the middleware's `taskTimeout`. */
  timeout?: number | undefined
}

/** Defers tasks until after the response. They can defer further ones. One that fails is logged, and the others still run. */
export type Defer = {
  /**
   * A function, called once the response has left.
   *
   * @throws PostInvokeError `ERR_INVALID_TASK` for what is no task or no options, `ERR_NO_INVOCATION` once the invocation
   * has settled.
   */
  (task: (context: TaskContext) => unknown, options?: DeferOptions): void
  /** A promise is under way whatever the outcome, so it takes no `on`. */
  (task: Task, options?: DeferOptions & { on?: 'always' | undefined }): void
}

/** A task from its defer() to its end. */
export type DeferredTask = {
  /** What was given, as a function also where it is a promise. */
  run: (context: TaskContext) => unknown
  /** Its name in log lines. */
  readonly label: string
  readonly on: 'success' | 'error' | 'always'
  readonly timeout: number | undefined
  /** Its place among the tasks of its invocation, from 1. */
  readonly index: number
  /** Whether time was up already when it was deferred. */
  readonly isLate: boolean
  /** That in which it was deferred. */
  readonly asyncContext: AsyncContext
  /** Whether it is a promise that has settled, and so needs no time any more. */
  hasSettled: boolean
  /** Made when the task asks for its signal, or is aborted. */
  controller: AbortController | undefined
  /** Ends the wait for its promise. There once it runs, and the first end counts. */
  finish: ((ending: Ending) => void) | undefined
}

/** How a task that has been started has ended. */
export type Ending = Pick<TaskMessage, 'status' | 'error'>

/** Made once: each call with options needs them. */
let rules: Record<keyof DeferOptions, OptionRule> | undefined
function deferRules(): Record<keyof DeferOptions, OptionRule> {
  rules ??= { name: text, on: oneOf('success', 'error', 'always'), timeout: wholeNumber(1) }
  return rules
}

/** How much of a name is used. */
const MAX_NAME_LENGTH = 100

/** Checks what `defer` was given, at the call: later nobody knows any more who gave it. */
export function createTask(
  given: unknown,
  options: unknown,
  index: number,
  isLate: boolean,
  taskTimeout?: number,
): DeferredTask {
  const {
    name,
    on = 'always',
    timeout = taskTimeout,
  } = checkOptions<DeferOptions>('defer()', deferRules, options, invalidTask)
  const isPromise = isThenable(given)
  if (isPromise && on !== 'always') throw invalidTask(`a function for \`on: '${on}'\``, given)
  if (!isPromise && (!isFunction(given) || isGenerator(given))) {
    throw invalidTask('a function or a promise to defer', given)
  }
  const task: DeferredTask = {
    run: given as DeferredTask['run'],
    label: printable(name ?? (isPromise ? '' : given.name)) || `task ${index}`,
    on,
    timeout,
    index,
    isLate,
    asyncContext: asyncContext(),
    hasSettled: false,
    controller: undefined,
    finish: undefined,
  }
  if (isPromise) follow(task, given)
  return task
}

/** Handled from now on: it may reject long before it is its turn. */
function follow(task: DeferredTask, given: PromiseLike<unknown>): void {
  const promise = adopt(given)
  promise.then(settled, settled)
  task.run = awaited
  function settled() {
    task.hasSettled = true
  }
  function awaited() {
    return promise
  }
}

/** It would make an iterator, and never run. */
const isGenerator = (task: object) => {
  const kind: unknown = (task as any)[Symbol.toStringTag]
  return kind === 'GeneratorFunction' || kind === 'AsyncGeneratorFunction'
}

/** Cut first, then without what would break a line of log or turn its direction. */
const printable = (name: string): string => {
  const cut = name.slice(0, MAX_NAME_LENGTH)
  // Most names are printable ASCII. To look for anything else takes a quarter of the time of the replacement below.
  if (!/[^ -~]/.test(cut)) return cut
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return cut.replace(/[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, '\ufffd')
}

const invalidTask = (expected: string, given: unknown, data?: unknown) =>
  unexpected('ERR_INVALID_TASK', expected, given, data)
