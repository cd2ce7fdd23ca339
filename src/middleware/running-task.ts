// One task from its start to its end: what it is given, when it is aborted, and when it is no longer waited for.
import type { AsyncResource } from 'node:async_hooks'
import { PostInvokeError } from '../errors.ts'
import { type TaskMessage, type Trace, trace } from './channels.ts'
import { isThenable, type TaskContext, type ValidTask } from './task.ts'

/** An aborted task has this long to clean up. Then it is reported and no longer waited for. */
export const ABORT_GRACE_MS = 100

/** What setTimeout can count, 24 days: past it, it fires at once. */
export const MAX_TIMEOUT_MS = 2 ** 31 - 1

/** What a task is told of the invocation that deferred it. */
export type OriginFacts = Pick<TaskContext, 'awsRequestId' | 'outcome' | 'error'>

export type TaskEntry = ValidTask & {
  /** Its name in log lines. */
  readonly label: string
  /** How many its invocation had deferred with it. */
  readonly index: number
  /** What it is told of its own invocation, where it runs in the time of another one. */
  readonly carried?: OriginFacts
  /** Whether time was up already when it was deferred. */
  readonly isLate: boolean
  /** That in which the task was deferred. */
  readonly asyncContext: AsyncContext
}

export type AsyncContext = Pick<AsyncResource, 'runInAsyncScope'>

export type Failure = { readonly error: unknown }

export type OnEnd = (failure: Failure | undefined) => Promise<void> | undefined

/** A task as subscribers are told of it. */
export const taskMessage = ({ label: name, index, carried }: TaskEntry, facts: OriginFacts) => ({
  name,
  awsRequestId: facts.awsRequestId,
  index,
  outcome: facts.outcome,
  carried: carried !== undefined,
})

export class RunningTask {
  readonly entry: TaskEntry
  readonly #facts: OriginFacts
  readonly #getRemainingTime: () => number
  readonly #timeout: number | undefined
  /** Whether a timer of ours has to keep the process alive. */
  readonly #ref: boolean
  #controller: AbortController | undefined
  #reason: PostInvokeError | undefined
  #end: ((failure?: Failure, status?: 'abandoned') => void) | undefined
  #trace: Trace<TaskMessage> | undefined

  constructor(
    entry: TaskEntry,
    facts: OriginFacts,
    options: { timeout: number | undefined; ref: boolean; getRemainingTimeInMillis: () => number },
  ) {
    this.entry = entry
    this.#facts = facts
    this.#getRemainingTime = options.getRemainingTimeInMillis
    this.#timeout = options.timeout
    this.#ref = options.ref
  }

  /**
   * Never throws and never rejects.
   *
   * @param onEnd - Called once, when the task has ended or is abandoned. What it returns is waited for.
   */
  run(onEnd: OnEnd): Promise<void> | undefined {
    const { asyncContext, task, label } = this.entry
    const given = new GivenContext(this, label, this.#facts, this.#getRemainingTime)
    const traced = trace('task', () => taskMessage(this.entry, this.#facts))
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
    this.#tellEnd(failure)
    return onEnd(failure)
  }

  #tellEnd(failure: Failure | undefined, status: TaskMessage['status'] = failure ? 'failed' : 'completed'): void {
    this.#trace?.end({ status, ...failure })
  }

  abort(reason: PostInvokeError): void {
    this.#reason ??= reason
    this.#controller?.abort(this.#reason)
  }

  /** Waits no longer. What the task does from here on is its own affair. */
  abandon(reason: PostInvokeError): void {
    this.#end?.({ error: this.#reason ?? reason }, 'abandoned')
  }

  #waitFor(result: PromiseLike<unknown>, onEnd: OnEnd): Promise<void> {
    return new Promise(resolve => {
      let timer: NodeJS.Timeout | undefined
      const end = (failure?: Failure, status?: 'abandoned') => {
        if (this.#end === undefined) return
        this.#end = undefined
        clearTimeout(timer)
        this.#tellEnd(failure, status)
        resolve(onEnd(failure))
      }
      this.#end = end
      whenSettled(
        result,
        () => end(),
        error => end({ error }),
      )
      if (this.#timeout === undefined) return
      timer = this.#setTimer(() => {
        const reason = this.#timeoutError()
        this.abort(reason)
        timer = this.#setTimer(() => this.abandon(reason), ABORT_GRACE_MS)
      }, this.#timeout)
    })
  }

  /** Made when the task asks for it: most never do, and one costs more than the rest of a task's start. */
  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController()
      if (this.#reason) this.#controller.abort(this.#reason)
    }
    return this.#controller.signal
  }

  #timeoutError(): PostInvokeError {
    return new PostInvokeError(
      'ERR_TASK_TIMEOUT',
      `Expected the task ${JSON.stringify(this.entry.label)} to end within its timeout of ${this.#timeout} ms.`,
    )
  }

  #setTimer(fn: () => void, milliseconds: number): NodeJS.Timeout {
    const timer = setTimeout(fn, Math.min(milliseconds, MAX_TIMEOUT_MS))
    if (!this.#ref) timer.unref()
    return timer
  }
}

/** A class for its one getter: an object literal with a getter is made several times slower. */
class GivenContext implements TaskContext {
  readonly name: string
  readonly awsRequestId: string
  readonly outcome: 'success' | 'error'
  readonly error: unknown
  readonly getRemainingTimeInMillis: () => number
  readonly #running: RunningTask

  constructor(running: RunningTask, name: string, facts: OriginFacts, getRemainingTimeInMillis: () => number) {
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

/** A plain promise needs no other one around it, which is half of what a task costs. Any other `then` may do anything. */
const whenSettled = (result: PromiseLike<unknown>, fulfilled: () => void, rejected: (error: unknown) => void) => {
  try {
    const isPlain = Object.getPrototypeOf(result) === Promise.prototype && !Object.hasOwn(result, 'then')
    // Not Promise.resolve: it would hand back a promise whose own `then` may throw.
    const promise = isPlain ? result : new Promise(adopt => adopt(result))
    promise.then(fulfilled, rejected)
  } catch (error) {
    rejected(error)
  }
}
