// The run of one task: what it is given, when it is aborted, and when it is no longer waited for.
import { type Failure, PostInvokeError, quote } from '../errors.ts'
import { type TaskMessage, trace } from './channels.ts'
import type { DeferredTask, TaskContext } from './defer-input.ts'
import { clearTimeout, isThenable, resolvers, timer, whenSettled } from './waits.ts'

/** An aborted task has this long to clean up. Then it is reported and no longer waited for. */
export const ABORT_GRACE_MS = 100

/** What tasks, and who watches them, are told of the invocation that deferred them. */
export type InvocationFacts = Pick<TaskContext, 'awsRequestId' | 'outcome'> & {
  readonly tenantId: string | undefined
  /** Whether an earlier deadline has kept them from starting. */
  readonly carried: boolean
}

/** What is the same for all tasks that run in one lent time. */
export type RunOptions = {
  readonly facts: InvocationFacts
  /** What was thrown in the invocation. */
  readonly error: unknown
  readonly taskTimeout: number | undefined
  /** Whether a timer of ours has to keep the process alive. */
  readonly keepsAlive: boolean
  readonly getRemainingTimeInMillis: () => number
}

type OnEnd = (task: DeferredTask, failure: Failure | undefined) => Promise<void> | undefined

/** As subscribers to the channels are told of it. */
export const messageOf = ({ label, index }: DeferredTask, facts: InvocationFacts): TaskMessage => ({
  name: label,
  index,
  ...facts,
})

/**
 * Runs a task to its end, or until it is abandoned. Never throws and never rejects.
 *
 * @param onEnd - Called once, when the task has ended or is abandoned. What it returns is waited for.
 */
export function runTask(task: DeferredTask, options: RunOptions, onEnd: OnEnd): Promise<unknown> | undefined {
  const { asyncContext } = task
  const { keepsAlive, taskTimeout } = options
  const context = new GivenContext(task, options)
  const traced = trace('task', () => messageOf(task, options.facts))
  let failure: Failure | undefined
  let work: PromiseLike<unknown> | undefined
  try {
    const result = traced
      ? asyncContext.runInAsyncScope(() => traced.run(() => task.run(context)))
      : asyncContext.runInAsyncScope(task.run, undefined, context)
    if (isThenable(result)) work = result
  } catch (error) {
    failure = { error }
  }
  if (!work) return end(failure)
  const { promise, resolve } = resolvers<unknown>()
  const { timeout = taskTimeout } = task
  let timeLimit: NodeJS.Timeout | undefined
  // Not `task.finish = () => …`: V8 puts a function that is written there into its old generation, and all that hangs off it,
  // the whole invocation, then lives on until the whole heap is collected.
  task.finish = finish
  function finish(failure?: Failure, status?: 'abandoned') {
    task.finish = undefined // the first end counts
    clearTimeout(timeLimit)
    resolve(end(failure, status))
  }
  whenSettled(
    work,
    () => task.finish?.(),
    error => task.finish?.({ error }),
  )
  // It may have ended already, by a thenable that calls back at once.
  if (timeout !== undefined && task.finish !== undefined) timeLimit = timer(timeout, keepsAlive, abort)
  return promise

  function abort() {
    const reason = new PostInvokeError(
      'ERR_TASK_TIMEOUT',
      `Expected the task ${quote(task.label)} to end within its timeout of ${timeout} ms.`,
    )
    timeLimit = abortTasks([task], reason, ABORT_GRACE_MS, keepsAlive)
  }
  function end(failure?: Failure, status: TaskMessage['status'] = failure ? 'failed' : 'completed') {
    traced?.end({ status, ...failure })
    return onEnd(task, failure)
  }
}

/**
 * Aborts tasks, and after a time of grace ends the wait for those that still run. They may go on, but nobody hears of their
 * end any more.
 */
export function abortTasks(
  tasks: Iterable<DeferredTask>,
  reason: PostInvokeError,
  grace: number,
  keepsAlive: boolean,
): NodeJS.Timeout {
  for (const task of tasks) {
    task.abortReason ??= reason
    task.controller?.abort(task.abortReason)
  }
  return timer(grace, keepsAlive, () => {
    for (const { finish, abortReason } of tasks) finish?.({ error: abortReason ?? reason }, 'abandoned')
  })
}

/** A class for its one getter: an object literal with a getter is made several times slower. */
class GivenContext implements TaskContext {
  declare readonly name: string
  declare readonly awsRequestId: string
  declare readonly outcome: 'success' | 'error'
  declare readonly error: unknown
  declare readonly getRemainingTimeInMillis: () => number
  readonly #task: DeferredTask

  constructor(task: DeferredTask, { facts, error, getRemainingTimeInMillis }: RunOptions) {
    this.name = task.label
    this.awsRequestId = facts.awsRequestId
    this.outcome = facts.outcome
    this.error = error
    this.getRemainingTimeInMillis = getRemainingTimeInMillis
    this.#task = task
  }

  /** Most tasks never ask for it, and to make one costs more than the rest of a task's start. */
  get signal(): AbortSignal {
    const task = this.#task
    if (!task.controller) {
      task.controller = new AbortController()
      if (task.abortReason) task.controller.abort(task.abortReason)
    }
    return task.controller.signal
  }
}
