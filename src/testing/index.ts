/**
 * A kit for unit tests: it calls a handler in the test's own process, waits for what the handler deferred, and says what
 * became of it. It works with any test runner.
 *
 * @packageDocumentation
 */

import { AsyncResource } from 'node:async_hooks'
import timers from 'node:timers'
import type { Context as LambdaContext } from 'aws-lambda'
import { describe } from '../errors.ts'
import { provideRunner } from '../hand-off/provide-runner.ts'
import type { Invocation } from '../middleware/invocation.ts'
import { existingProcess } from '../middleware/process.ts'
import { type Hook, timeUntil } from '../middleware/process-end.ts'
import { now, turn } from '../middleware/waits.ts'
import { type DurablePluginProvider, durablePlugin } from './durable.ts'
import { TestingError, type TestingErrorCode } from './error.ts'
import { createLambdaContext } from './lambda-context.ts'
import { type HookReport, type TaskReport, watchHooks, watchTasks } from './watch.ts'

export type { DurablePlugin, DurablePluginProvider } from './durable.ts'
export { TestingError, type TestingErrorCode } from './error.ts'
export type { HookReport, TaskReport } from './watch.ts'

provideRunner() // what a handler hands off runs in the test's own process

/** A handler with `postInvoke()` or `withPostInvoke()`. */
export type TestedHandler<Event, Result> = (
  event: Event,
  context: any,
  ...more: any[]
  // biome-ignore lint/suspicious/noConfusingVoidType: as the Handler of 'aws-lambda' has it
) => Promise<Result> | Result | void

/** For tests with fake timers. */
export type AdvanceTimersOption = {
  /**
   * Called in each turn of the event loop until all has ended, so that what waits for a fake timer goes on:
   * `vi.advanceTimersToNextTimerAsync`, `jest.advanceTimersToNextTimerAsync`, or of node:test `() => mock.timers.runAll()`.
   * Default: none, and such a task is abandoned at the deadline.
   */
  advanceTimers?: (() => unknown) | undefined
}

/** How a handler is to be called. */
export type SendOptions = AdvanceTimersOption & {
  /** The function's timeout in milliseconds: tasks are aborted `deadlineMargin` (250 ms) before it. Default 3,000. */
  timeout?: number | undefined
  /** Fields of the context that the test asks for. Default: those of a function called `test`, with a new request id. */
  context?: Partial<LambdaContext> | undefined
}

/** Whether failures of tasks or hooks make the call reject. */
export type FailuresOption = {
  /** `'throw'`: the call rejects where a task or hook failed, was abandoned or had no time. `'report'`: it does not. Default `'throw'`. */
  failures?: 'throw' | 'report' | undefined
}

/** What the tasks of an invocation came to. */
export type Settled = {
  /** What became of each task, in the order in which they ended; also of those that an earlier invocation had carried over. */
  readonly tasks: readonly TaskReport[]
  /**
   * Finds a task by its name.
   *
   * @param name - As in the log.
   * @returns the first task of that name.
   * @throws TestingError `OPTION_INVALID` that names the tasks that there were.
   */
  task(name: string): TaskReport
}

/** An invocation under way, as {@link send} began it. */
export type InvocationUnderWay<Result> = {
  /** What the handler is given. */
  readonly context: LambdaContext
  /** The handler's answer, or its error. */
  readonly answered: Promise<Result>
  /** Resolves when the handler and all of its tasks have ended, whether they failed or not. */
  readonly settled: Promise<Settled>
}

/** An invocation that has settled. */
export type Invoked<Result> = Settled & {
  /** What the handler answered. */
  readonly answer: Result
}

/** What a shutdown came to. */
export type ShutdownResult = Settled & {
  /** What became of each hook, in the order in which they ran. */
  readonly hooks: readonly HookReport[]
}

/**
 * Calls a handler and waits for its answer, then for its tasks.
 *
 * @param handler - A handler with `postInvoke()` or `withPostInvoke()`. Streamed ones are for the sandbox.
 * @param event - Its event.
 * @param options - The function's timeout, fields of the context, and what failures mean.
 * @returns the answer and what became of each task.
 * @throws what the handler throws, after its tasks have ended; TestingError `TASK_FAILED`, `HANDLER_TIMEOUT`,
 * `NOT_SETTLED` or `OPTION_INVALID`.
 *
 * @example
 * ```ts
 * import assert from 'node:assert/strict'
 * import { invoke } from 'middy-post-invoke/testing'
 *
 * const { answer, task } = await invoke(handler, { body: 'tea' })
 * assert.equal(answer.statusCode, 201)
 * assert.equal(task('analytics').status, 'completed')
 * ```
 */
export const invoke = async <Event, Result>(
  handler: TestedHandler<Event, Result>,
  event: Event,
  options: SendOptions & FailuresOption = {},
): Promise<Invoked<Result>> => {
  const { failures, ...rest } = checked(options, ['timeout', 'context', 'advanceTimers', 'failures'])
  const { answered, settled } = send(handler, event, rest)
  const { tasks, task } = await settled
  const answer = await answered
  if (failures !== 'report') throwFailures('TASK_FAILED', 'task', tasks, hintOf(options))
  return { answer, tasks, task }
}

/**
 * Calls a handler and gives both phases: the answer, and the end of its tasks. Neither has to be awaited.
 *
 * @param handler - A handler with `postInvoke()` or `withPostInvoke()`.
 * @param event - Its event.
 * @param options - The function's timeout and fields of the context.
 * @returns the two phases as promises.
 * @throws TestingError `OPTION_INVALID`.
 *
 * @example
 * ```ts
 * import assert from 'node:assert/strict'
 * import { send } from 'middy-post-invoke/testing'
 *
 * const { answered, settled } = send(handler, { body: 'no tea' })
 * await assert.rejects(answered, /out of tea/)
 * assert.equal((await settled).task('audit').outcome, 'error')
 * ```
 */
export const send = <Event, Result>(
  handler: TestedHandler<Event, Result>,
  event: Event,
  options: SendOptions = {},
): InvocationUnderWay<Result> => {
  const { timeout = 3_000, context: given, advanceTimers } = checked(options, ['timeout', 'context', 'advanceTimers'])
  if (typeof handler !== 'function') throw invalid(`Expected a handler, got ${describe(handler)}`)
  if (!(Number.isFinite(timeout) && timeout > 0)) {
    throw invalid(`Expected the timeout to be a number of milliseconds above 0, got ${describe(timeout)}`)
  }
  if (process.env.AWS_LAMBDA_RUNTIME_API !== undefined) {
    throw invalid('Expected no AWS_LAMBDA_RUNTIME_API in a unit test: it makes the process take itself for Lambda')
  }
  const context = createLambdaContext(timeout, given)
  const watch = watchTasks(({ awsRequestId, carried }) => carried || awsRequestId === context.awsRequestId)
  // In an async context of its own: what the handler enters must not go on in the test.
  const call = async () => (await handler(event, context)) as Result
  const answered = bounded(new AsyncResource('test').runInAsyncScope(call), timeout, () =>
    error('HANDLER_TIMEOUT', `Expected the handler to answer within its timeout of ${timeout} ms${hintOf(options)}`),
  )
  const settle = async () => {
    let isLate = false
    await answered.catch(thrown => {
      isLate = thrown instanceof TestingError && thrown.code === 'HANDLER_TIMEOUT'
    })
    try {
      const invocation = underWay.invocation()
      // As on Lambda: what a function that timed out has deferred runs at shutdown, if at all.
      if (invocation && isLate) return toSettled(watch.reports)
      if (invocation) await bounded(invocation.leave(), timeout + GRACE_MS, () => notSettled(invocation))
      allUnderWay.delete(underWay)
      return toSettled(watch.reports)
    } finally {
      watch.stop()
    }
  }
  const underWay: UnderWay = {
    invocation: () => invocationOf(context),
    settled: advancing(advanceTimers, settle()),
  }
  allUnderWay.add(underWay)
  // Whichever is not awaited must not end the process.
  answered.catch(() => {})
  underWay.settled.catch(() => {})
  return { context, answered, settled: underWay.settled as Promise<Settled> }
}

/**
 * Runs the shutdown drain, as SIGTERM would on Lambda: tasks that were carried over or whose function timed out, then the
 * hooks, last in, first out, within the same budget. The hooks stay registered for the next test; what `resource()` made is
 * disposed of, and made anew at its next use.
 *
 * @param options - What failures mean.
 * @returns what became of tasks and hooks.
 * @throws TestingError `TASK_FAILED`, `HOOK_FAILED` or `OPTION_INVALID`.
 *
 * @example
 * ```ts
 * import assert from 'node:assert/strict'
 * import { shutdown } from 'middy-post-invoke/testing'
 *
 * const { hooks } = await shutdown()
 * assert.deepEqual(hooks.map(({ name }) => name), ['metrics', 'database'])
 * ```
 */
export const shutdown = async (options: FailuresOption & AdvanceTimersOption = {}): Promise<ShutdownResult> => {
  const { failures, advanceTimers } = checked(options, ['failures', 'advanceTimers'])
  const watchedTasks = watchTasks(() => true)
  const watchedHooks = watchHooks()
  const running = existingProcess()
  const putBack = running && noteTaken(running.hooks)
  try {
    for (const underWay of allUnderWay) {
      const invocation = underWay.invocation()
      if (!invocation?.isOpen()) continue
      allUnderWay.delete(underWay)
      await advancing(advanceTimers, invocation.drainWithin(timeUntil(now() + SHUTDOWN_TASKS_MS)))
    }
    await advancing(advanceTimers, running?.drain())
  } finally {
    watchedTasks.stop()
    watchedHooks.stop()
    putBack?.()
  }
  const result = { ...toSettled(watchedTasks.reports), hooks: watchedHooks.reports }
  if (failures !== 'report') {
    throwFailures('TASK_FAILED', 'task', result.tasks, hintOf(options))
    throwFailures('HOOK_FAILED', 'shutdown hook', result.hooks, hintOf(options))
  }
  return result
}

/** Notes which hooks are taken out of the list to be run. @returns what puts them back, those of resources apart. */
const noteTaken = (hooks: Hook[]) => {
  const taken: Hook[] = []
  hooks.pop = () => {
    const hook = Array.prototype.pop.call(hooks) as Hook | undefined
    if (hook && !hook.isOfResource) taken.unshift(hook)
    return hook
  }
  return () => {
    Reflect.deleteProperty(hooks, 'pop')
    hooks.push(...taken)
  }
}

/**
 * Leaves nothing of one test to the next: waits for invocations under way, and drops tasks that were carried over. For
 * `afterEach`. Hooks stay registered.
 *
 * @returns a promise that resolves once nothing is under way. It never rejects.
 *
 * @example
 * ```ts
 * import { afterEach } from 'node:test'
 * import { reset } from 'middy-post-invoke/testing'
 *
 * afterEach(reset)
 * ```
 */
export const reset = async (): Promise<void> => {
  const settled = [...allUnderWay].map(underWay => underWay.settled)
  allUnderWay.clear()
  await Promise.allSettled(settled)
  const running = existingProcess()
  running?.carriedOver.splice(0)
  running?.unsettled.clear()
}

/** The one that was opened last with it, if that has not settled. */
const invocationOf = (context: object) =>
  [...(existingProcess()?.unsettled ?? [])].findLast(invocation => invocation.context === context)

type UnderWay = { invocation(): Invocation | undefined; readonly settled: Promise<unknown> }

/** What {@link send} or a durable execution has begun and has not settled, as what timed out never does. */
const allUnderWay = new Set<UnderWay>()

/**
 * Ends the invocations of durable executions that are not called by {@link invoke} or {@link send}, when
 * `@aws/durable-execution-sdk-js` ends them. Without it nothing tells of a suspension outside Lambda, and what was deferred
 * before one does not run. The SDK takes it by its variable `DURABLE_EXECUTION_PLUGINS=middy-post-invoke/testing`, from version
 * 2.3 on, or by `plugins: [durableExecutionPluginProvider.createPlugin()]` in its configuration. On Lambda it does nothing.
 *
 * @example
 * ```ts
 * import { withDurableExecution } from '@aws/durable-execution-sdk-js'
 * import { durableExecutionPluginProvider } from 'middy-post-invoke/testing'
 *
 * const plugins = [durableExecutionPluginProvider.createPlugin()]
 * const tested = withDurableExecution(async (order, context) => context.step(() => placeOrder(order)), { plugins })
 * ```
 */
export const durableExecutionPluginProvider: DurablePluginProvider = durablePlugin(invocation => {
  const settled = invocation.leave().then(() => void allUnderWay.delete(underWay))
  const underWay: UnderWay = { invocation: () => invocation, settled }
  allUnderWay.add(underWay)
})

/** How long after the deadline, by which all tasks should be over, they are waited for. */
const GRACE_MS = 1_000

/** For tasks of functions that timed out; of Lambda's 500 ms. */
const SHUTDOWN_TASKS_MS = 300

/** Not the globals: runners put fakes in their place. */
const { setTimeout: setRealTimeout, clearTimeout: clearRealTimeout } = timers

const bounded = async <Value>(work: Promise<Value>, milliseconds: number, late: () => Error): Promise<Value> => {
  const { promise, reject } = Promise.withResolvers<never>()
  const timer = setRealTimeout(() => reject(late()), milliseconds)
  try {
    return await Promise.race([work, promise])
  } finally {
    clearRealTimeout(timer)
  }
}

/** Lets fake timers go on, turn by turn, until `work` has ended. */
const advancing = async <Value>(
  advanceTimers: AdvanceTimersOption['advanceTimers'],
  work: Promise<Value> | undefined,
): Promise<Value | undefined> => {
  if (advanceTimers && work) {
    let isOver = false
    const end = () => {
      isOver = true
    }
    work.then(end, end)
    while (!isOver) {
      await turn()
      if (!isOver) await advanceTimers()
    }
  }
  return work
}

/** As this was loaded, which a test does before it puts fakes in their place. */
const setTimeoutAtLoad = globalThis.setTimeout

const hintOf = ({ advanceTimers }: AdvanceTimersOption): string =>
  advanceTimers || globalThis.setTimeout === setTimeoutAtLoad
    ? ''
    : '. Timers are fakes here, which go on with { advanceTimers }'

const toSettled = (reports: readonly TaskReport[]): Settled => {
  const tasks = [...reports]
  return {
    tasks,
    task(name) {
      const found = tasks.find(task => task.name === name)
      if (found) return found
      const names = tasks.map(task => quote(task.name)).join(', ')
      throw invalid(`Expected a task ${quote(name)}, got ${names === '' ? 'none' : names}`)
    },
  }
}

/** Of all that `context.defer` and the rest were given, what a test must not overlook. */
const throwFailures = (
  code: 'TASK_FAILED' | 'HOOK_FAILED',
  what: string,
  reports: readonly (TaskReport | HookReport)[],
  hint: string,
): void => {
  const failed = reports.filter(({ status }) => FAILURES.includes(status))
  if (failed.length === 0) return
  const lines = failed.map(
    ({ name, status, error }) =>
      `\n  ${what} ${quote(name)} ${status}${status === 'not run' ? '' : `: ${messageOf(error)}`}`,
  )
  throw error(
    code,
    `Expected every ${what} to succeed:${lines.join('')}\nA test that expects this passes { failures: 'report' }${hint}`,
    failed.map(report => report.error),
  )
}

const FAILURES: readonly string[] = ['failed', 'abandoned', 'dropped', 'not run']

const notSettled = (invocation: Invocation) =>
  error(
    'NOT_SETTLED',
    `Expected the tasks of request ${invocation.requestId} to end before the function's deadline, but these are under way: ${invocation.unfinished().names.map(quote).join(', ')}. They block the event loop`,
  )

const checked = <Options extends object>(options: Options, names: readonly string[]): Options => {
  if (options === null || typeof options !== 'object') {
    throw invalid(`Expected the options to be an object, got ${describe(options)}`)
  }
  const unknown = Object.keys(options).find(name => !names.includes(name))
  if (unknown !== undefined) throw invalid(`Expected options among ${names.join(', ')}, got ${quote(unknown)}`)
  const { failures, advanceTimers } = options as FailuresOption & AdvanceTimersOption
  if (advanceTimers !== undefined && typeof advanceTimers !== 'function') {
    throw invalid(`Expected advanceTimers to be a function, got ${describe(advanceTimers)}`)
  }
  if (failures !== undefined && failures !== 'throw' && failures !== 'report') {
    throw invalid(`Expected failures to be 'throw' or 'report', got ${describe(failures)}`)
  }
  return options
}

const error = (code: TestingErrorCode, message: string, errors?: readonly unknown[]) =>
  new TestingError(code, `${message}.`, errors)

const invalid = (message: string) => error('OPTION_INVALID', message)

const messageOf = (thrown: unknown) => (thrown instanceof Error ? thrown.message : describe(thrown))

const quote = (name: string) => JSON.stringify(name)
