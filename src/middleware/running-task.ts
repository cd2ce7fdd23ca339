// One task from its start to its end: what it is given, when it is aborted, and when it is no longer waited for.
import { PostInvokeError } from '../errors.ts'
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
  /** What it is told of its own invocation, where it runs in the time of another one. */
  readonly carried?: OriginFacts
  /** Runs a function in the async context in which the task was deferred. */
  readonly enter: <Result>(fn: (context: TaskContext) => Result, context: TaskContext) => Result
}

export type Failure = { readonly error: unknown }

export class RunningTask {
  readonly entry: TaskEntry
  readonly #facts: Omit<TaskContext, 'signal' | 'name'>
  readonly #timeout: number | undefined
  /** Whether a timer of ours has to keep the process alive. */
  readonly #ref: boolean
  #controller: AbortController | undefined
  #reason: PostInvokeError | undefined
  #end: ((failure: Failure | undefined) => void) | undefined

  constructor(
    entry: TaskEntry,
    facts: Omit<TaskContext, 'signal' | 'name'>,
    options: { timeout: number | undefined; ref: boolean },
  ) {
    this.entry = entry
    this.#facts = facts
    this.#timeout = options.timeout
    this.#ref = options.ref
  }

  /** Never throws and never rejects. The promise resolves when the task has ended, or is abandoned. */
  run(): Failure | undefined | Promise<Failure | undefined> {
    try {
      const result = this.entry.enter(this.entry.task, this.#context())
      return isThenable(result) ? this.#waitFor(result) : undefined
    } catch (error) {
      return { error }
    }
  }

  abort(reason: PostInvokeError): void {
    this.#reason ??= reason
    this.#controller?.abort(this.#reason)
  }

  /** Waits no longer. What the task does from here on is its own affair. */
  abandon(reason: PostInvokeError): void {
    this.#end?.({ error: this.#reason ?? reason })
  }

  async #waitFor(result: PromiseLike<unknown>): Promise<Failure | undefined> {
    const { promise, resolve } = Promise.withResolvers<Failure | undefined>()
    this.#end = resolve
    Promise.resolve(result).then(
      () => resolve(undefined),
      error => resolve({ error }),
    )
    if (this.#timeout === undefined) return promise
    let timer = this.#setTimer(() => {
      const reason = this.#timeoutError()
      this.abort(reason)
      timer = this.#setTimer(() => this.abandon(reason), ABORT_GRACE_MS)
    }, this.#timeout)
    try {
      return await promise
    } finally {
      clearTimeout(timer)
    }
  }

  #context(): TaskContext {
    const signal = () => this.#signal()
    return {
      ...this.#facts,
      name: this.entry.label,
      get signal() {
        return signal()
      },
    }
  }

  /** Made when the task asks for it: most never do, and one costs more than the rest of a task's start. */
  #signal(): AbortSignal {
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
