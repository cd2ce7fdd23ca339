// One task from its start to its end: what it is given, when it is aborted, and when it is no longer waited for.
import type { AsyncResource } from 'node:async_hooks'
import { PostInvokeError } from '../errors.ts'
import { type TaskMessage, type Trace, trace } from './channels.ts'
import type { TaskContext, ValidTask } from './task.ts'
import { clearTimeout, isThenable, promiseOf, timer, whenSettled } from './waits.ts'

/** An aborted task has this long to clean up. Then it is reported and no longer waited for. */
export const ABORT_GRACE_MS = 100

/** What a task is told of the invocation that deferred it. */
export type InvocationFacts = Pick<TaskContext, 'awsRequestId' | 'outcome' | 'error'> & {
  readonly tenantId: string | undefined
}

export type TaskEntry = Omit<ValidTask, 'name'> & {
  /** Its name in log lines. */
  readonly label: string
  /** How many its invocation had deferred with it: 1 for the first. */
  readonly index: number
  /** Whether time was up already when it was deferred. */
  readonly isLate: boolean
  /** That in which the task was deferred. */
  readonly asyncContext: AsyncContext
}

export type AsyncContext = Pick<AsyncResource, 'runInAsyncScope'>

export type Failure = { readonly error: unknown }

export type OnEnd = (failure: Failure | undefined) => Promise<void> | undefined

/** A task as subscribers to the channels are told of it. */
export const taskMessage = ({ label: name, index }: TaskEntry, facts: InvocationFacts, carried: boolean) => ({
  name,
  awsRequestId: facts.awsRequestId,
  tenantId: facts.tenantId,
  index,
  outcome: facts.outcome,
  carried,
})

export class RunningTask {
  readonly entry: TaskEntry
  readonly #facts: InvocationFacts
  readonly #options: RunOptions
  #controller: AbortController | undefined
  #reason: PostInvokeError | undefined
  #end: ((failure?: Failure, status?: 'abandoned') => void) | undefined
  #trace: Trace<TaskMessage> | undefined

  constructor(entry: TaskEntry, facts: InvocationFacts, options: RunOptions) {
    this.entry = entry
    this.#facts = facts
    this.#options = options
  }

  /**
   * Never throws and never rejects.
   *
   * @param onEnd - Called once, when the task has ended or is abandoned. What it returns is waited for.
   */
  run(onEnd: OnEnd): Promise<unknown> | undefined {
    const { asyncContext, task, label } = this.entry
    const given = new GivenContext(this, label, this.#facts, this.#options.getRemainingTimeInMillis)
    const traced = trace('task', () => taskMessage(this.entry, this.#facts, this.#options.carried))
    this.#trace = traced
    let failure: Failure | undefined
    try {
      const result = traced
        ? asyncContext.runInAsyncScope(() => traced.run(() => task(given)))
        : asyncContext.runInAsyncScope(task, undefined, given)
      if (isThenable(result)) return this.#waitFor(result, onEnd)
    } catch (error) {
      failure = { error }
    }
    this.#traceEnd(failure)
    return onEnd(failure)
  }

  abort(reason: PostInvokeError): void {
    this.#reason ??= reason
    this.#controller?.abort(this.#reason)
  }

  /** Waits no longer. What the task does from here on is its own affair. */
  abandon(reason: PostInvokeError): void {
    this.#end?.({ error: this.#reason ?? reason }, 'abandoned')
  }

  /** Made when the task asks for it: most never do, and one costs more than the rest of a task's start. */
  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController()
      if (this.#reason) this.#controller.abort(this.#reason)
    }
    return this.#controller.signal
  }

  #traceEnd(failure: Failure | undefined, status: TaskMessage['status'] = failure ? 'failed' : 'completed'): void {
    this.#trace?.end({ status, ...failure })
  }

  #waitFor(result: PromiseLike<unknown>, onEnd: OnEnd): Promise<unknown> {
    const { timeout = this.#options.taskTimeout } = this.entry
    return promiseOf(resolve => {
      let timeLimit: NodeJS.Timeout | undefined
      const end = (failure?: Failure, status?: 'abandoned') => {
        if (!this.#end) return
        this.#end = undefined
        clearTimeout(timeLimit)
        this.#traceEnd(failure, status)
        resolve(onEnd(failure))
      }
      this.#end = end
      whenSettled(
        result,
        () => end(),
        error => end({ error }),
      )
      if (timeout === undefined) return
      const { keepsAlive } = this.#options
      timeLimit = timer(timeout, keepsAlive, () => {
        const reason = new PostInvokeError(
          'ERR_TASK_TIMEOUT',
          `Expected the task ${JSON.stringify(this.entry.label)} to end within its timeout of ${timeout} ms.`,
        )
        this.abort(reason)
        timeLimit = timer(ABORT_GRACE_MS, keepsAlive, () => this.abandon(reason))
      })
    })
  }
}

/** What is the same for all tasks that run in one lent time. */
export type RunOptions = {
  readonly taskTimeout: number | undefined
  /** Whether a timer of ours has to keep the process alive. */
  readonly keepsAlive: boolean
  /** Whether an earlier deadline has kept it from starting. */
  readonly carried: boolean
  readonly getRemainingTimeInMillis: () => number
}

/** A class for its one getter: an object literal with a getter is made several times slower. */
class GivenContext implements TaskContext {
  readonly name: string
  readonly awsRequestId: string
  readonly outcome: 'success' | 'error'
  readonly error: unknown
  readonly getRemainingTimeInMillis: () => number
  readonly #running: RunningTask

  constructor(running: RunningTask, name: string, facts: InvocationFacts, getRemainingTimeInMillis: () => number) {
    this.name = name
    this.awsRequestId = facts.awsRequestId
    this.outcome = facts.outcome
    this.error = facts.error
    this.getRemainingTimeInMillis = getRemainingTimeInMillis
    this.#running = running
  }

  get signal(): AbortSignal {
    return this.#running.signal
  }
}
