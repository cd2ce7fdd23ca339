// One task from its defer() to its end: what it is given, when it is aborted, and when it is no longer waited for.
import type { AsyncResource } from 'node:async_hooks'
import { PostInvokeError, quote } from '../errors.ts'
import { type TaskMessage, type Trace, trace } from './channels.ts'
import type { TaskContext, ValidTask } from './task.ts'
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

export type AsyncContext = Pick<AsyncResource, 'runInAsyncScope'>

export type Failure = { readonly error: unknown }

export type OnEnd = (task: DeferredTask, failure: Failure | undefined) => Promise<void> | undefined

export class DeferredTask {
  /** Its name in log lines. */
  readonly label: string
  /** How many its invocation had deferred with it: 1 for the first. */
  readonly index: number
  readonly on: ValidTask['on']
  /** Whether time was up already when it was deferred. */
  readonly isLate: boolean
  /** That in which it was deferred. */
  readonly asyncContext: AsyncContext
  readonly #given: ValidTask
  #controller: AbortController | undefined
  #reason: PostInvokeError | undefined
  #end: ((failure?: Failure, status?: 'abandoned') => void) | undefined
  #trace: Trace<TaskMessage> | undefined

  constructor(given: ValidTask, index: number, isLate: boolean, asyncContext: AsyncContext) {
    this.#given = given
    this.label = given.name ?? `task ${index}`
    this.on = given.on
    this.index = index
    this.isLate = isLate
    this.asyncContext = asyncContext
  }

  /** Whether it is a promise whose work is done, and so needs no time any more. */
  isDone(): boolean {
    return this.#given.promise?.hasSettled === true
  }

  /** As subscribers to the channels are told of it. */
  message(facts: InvocationFacts): TaskMessage {
    return { name: this.label, index: this.index, ...facts }
  }

  /**
   * Never throws and never rejects.
   *
   * @param onEnd - Called once, when the task has ended or is abandoned. What it returns is waited for.
   */
  run(options: RunOptions, onEnd: OnEnd): Promise<unknown> | undefined {
    const { asyncContext } = this
    const { task } = this.#given
    const given = new GivenContext(this, options)
    const traced = trace('task', () => this.message(options.facts))
    this.#trace = traced
    let failure: Failure | undefined
    try {
      const result = traced
        ? asyncContext.runInAsyncScope(() => traced.run(() => task(given)))
        : asyncContext.runInAsyncScope(task, undefined, given)
      if (isThenable(result)) return this.#waitFor(result, options, onEnd)
    } catch (error) {
      failure = { error }
    }
    this.#traceEnd(failure)
    return onEnd(this, failure)
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

  #waitFor(result: PromiseLike<unknown>, { taskTimeout, keepsAlive }: RunOptions, onEnd: OnEnd): Promise<unknown> {
    const { promise, resolve } = resolvers<unknown>()
    const { timeout = taskTimeout } = this.#given
    let timeLimit: NodeJS.Timeout | undefined
    this.#end = (failure, status) => {
      this.#end = undefined // the first end counts
      clearTimeout(timeLimit)
      this.#traceEnd(failure, status)
      resolve(onEnd(this, failure))
    }
    whenSettled(
      result,
      () => this.#end?.(),
      error => this.#end?.({ error }),
    )
    if (timeout !== undefined) {
      timeLimit = timer(timeout, keepsAlive, () => {
        const reason = new PostInvokeError(
          'ERR_TASK_TIMEOUT',
          `Expected the task ${quote(this.label)} to end within its timeout of ${timeout} ms.`,
        )
        this.abort(reason)
        timeLimit = timer(ABORT_GRACE_MS, keepsAlive, () => this.abandon(reason))
      })
    }
    return promise
  }
}

/** A class for its one getter: an object literal with a getter is made several times slower. */
class GivenContext implements TaskContext {
  readonly name: string
  readonly awsRequestId: string
  readonly outcome: 'success' | 'error'
  readonly error: unknown
  readonly getRemainingTimeInMillis: () => number
  readonly #task: DeferredTask

  constructor(task: DeferredTask, { facts, error, getRemainingTimeInMillis }: RunOptions) {
    this.name = task.label
    this.awsRequestId = facts.awsRequestId
    this.outcome = facts.outcome
    this.error = error
    this.getRemainingTimeInMillis = getRemainingTimeInMillis
    this.#task = task
  }

  get signal(): AbortSignal {
    return this.#task.signal
  }
}
