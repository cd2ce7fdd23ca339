// The run of one task: what it is given, when it is aborted, and when it is no longer waited for.
import { PostInvokeError, quote } from '../errors.ts'
import { type TaskMessage, trace } from './channels.ts'
import type { DeferredTask, Ending, TaskContext } from './defer-input.ts'
import { adopt, clearTimeout, isThenable, resolvers, timer } from './waits.ts'

/** An aborted task has this long to clean up. Then it is reported and no longer waited for. */
export const ABORT_GRACE_MS = 100

/** What is the same for all tasks that run in one lent time. */
export type RunOptions = {
  /** What tasks, and who watches them, are told of the invocation that deferred them. */
  readonly facts: Pick<TaskMessage, 'awsRequestId' | 'tenantId' | 'outcome' | 'carried'>
  /** What was thrown in the invocation. */
  readonly error: unknown
  /** Whether a timer of ours has to keep the process alive. */
  readonly keepsAlive: boolean
  /** Milliseconds until the function's deadline. */
  readonly remainingTime: () => number
}

/** As subscribers to the channels are told of it. */
export const messageOf = ({ label, index }: DeferredTask, { facts }: RunOptions): TaskMessage => ({
  name: label,
  index,
  ...facts,
})

/**
 * Runs a task to its end, or until it is abandoned. Never throws and never rejects.
 *
 * @param onEnd - Called once, when the task has ended or is abandoned. What it returns is waited for.
 */
export function runTask(
  task: DeferredTask,
  options: RunOptions,
  onEnd: (task: DeferredTask, ending: Ending) => Promise<void> | undefined,
): Promise<void> | undefined {
  const { asyncContext, timeout } = task
  const { keepsAlive } = options
  const context = new GivenContext(task, options)
  const traced = trace('task', () => messageOf(task, options))
  let ending: Ending = { status: 'completed' }
  let work: Promise<unknown> | undefined
  try {
    const result = traced
      ? asyncContext.runInAsyncScope(() => traced.run(() => task.run(context)))
      : asyncContext.runInAsyncScope(task.run, undefined, context)
    if (isThenable(result)) work = adopt(result)
  } catch (error) {
    ending = { status: 'failed', error }
  }
  return work ? follow(work) : end()

  function follow(work: Promise<unknown>) {
    const { promise, resolve } = resolvers()
    let timeLimit: NodeJS.Timeout | undefined
    // Not `task.finish = () => …`: V8 puts a function that is written there into its old generation, and all that hangs off
    // it, the whole invocation, then lives on until the whole heap is collected.
    task.finish = finish
    work.then(
      () => finish(ending),
      error => finish({ status: 'failed', error }),
    )
    if (timeout !== undefined) timeLimit = timer(timeout, keepsAlive, abort)
    return promise

    function finish(how: Ending) {
      if (!task.finish) return // the first end counts
      task.finish = undefined
      clearTimeout(timeLimit)
      ending = how
      resolve(end())
    }
    function abort() {
      const reason = new PostInvokeError(
        'ERR_TASK_TIMEOUT',
        `Expected the task ${quote(task.label)} to end within its timeout of ${timeout} ms.`,
      )
      timeLimit = abortTasks([task], reason, ABORT_GRACE_MS, keepsAlive)
    }
  }
  function end() {
    traced?.end(ending)
    return onEnd(task, ending)
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
  // Those that run: the first reason counts.
  for (const task of tasks) if (task.finish) controllerOf(task).abort(reason)
  return timer(grace, keepsAlive, () => {
    for (const task of tasks) task.finish?.({ status: 'abandoned', error: controllerOf(task).signal.reason ?? reason })
  })
}

/** Made when it is asked for: most tasks never do, and to make one costs more than the rest of a task's start. */
function controllerOf(task: DeferredTask): AbortController {
  task.controller ??= new AbortController()
  return task.controller
}

/** A class for its one getter: an object literal with a getter is made several times slower. */
class GivenContext implements TaskContext {
  declare readonly name: string
  declare readonly awsRequestId: string
  declare readonly outcome: 'success' | 'error'
  declare readonly error: unknown
  declare readonly getRemainingTimeInMillis: () => number
  readonly #task: DeferredTask

  constructor(task: DeferredTask, { facts, error, remainingTime }: RunOptions) {
    this.name = task.label
    this.awsRequestId = facts.awsRequestId
    this.outcome = facts.outcome
    this.error = error
    this.getRemainingTimeInMillis = remainingTime
    this.#task = task
  }

  get signal(): AbortSignal {
    return controllerOf(this.#task).signal
  }
}
