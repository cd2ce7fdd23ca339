// One invocation: the tasks deferred in it, and what happens to each of them once the response has left.
import { PostInvokeError } from '../errors.ts'
import { RELEASE_MARGIN_MS } from '../extension/hold.ts'
import { listTasks, MAX_NAMES, type TaskList } from '../extension/link.ts'
import type { Log } from '../log.ts'
import { ABORT_GRACE_MS, type Failure, MAX_TIMEOUT_MS, RunningTask, type TaskEntry } from './running-task.ts'
import { type Defer, isThenable, validateTask } from './task.ts'
import { createTaskStack, type Order, type TaskStack } from './task-stack.ts'

export type InvocationOptions = {
  order: Order
  concurrency: number
  taskTimeout: number | undefined
  deadlineMargin: number
  onTaskError: ((error: unknown, task: { name: string; awsRequestId: string }) => unknown) | undefined
}

export type InvocationHost = {
  readonly log: Log
  /** Runs a function in the async context in which this was called. */
  snapshot(): <Result>(fn: (...args: any[]) => Result, ...args: any[]) => Result
  /** The tasks that would be lost now have changed. */
  onTasks(invocation: Invocation): void
  onDefer(): void
  onSettled(invocation: Invocation): void
  /** Where the environment is held, but the companion is still on its way. */
  ready(invocation: Invocation): Promise<void> | undefined
  /** The response, where it is streamed and not yet accepted. */
  streaming(invocation: Invocation): Promise<void> | undefined
}

/** What an invocation needs of Middy's request: where it leaves what was thrown. */
type Request = { error?: unknown }

export class Invocation {
  readonly requestId: string
  /** Whether the environment is held for the tasks, so that they can run after the response. */
  readonly isHeld: boolean
  /** Whether nothing but our promise keeps the process alive meanwhile, with no `next` of the client pending. */
  readonly isGated: boolean
  readonly #request: Request
  readonly #host: InvocationHost
  readonly #options: InvocationOptions
  #deadline: number
  /** When tasks are aborted, and when not even their end is waited for any longer. */
  #abortAt: number
  #letGoAt: number
  #shutdown: PostInvokeError | undefined
  readonly #stack: TaskStack<TaskEntry>
  readonly #running = new Set<RunningTask>()
  #phase: 'handler' | 'departed' | 'settled' = 'handler'
  /** Set by who watches the request: `error` alone does not tell, anything can be thrown, `undefined` too. */
  hasThrown = false
  #deferred = 0
  #told: number | undefined
  #aborted: PostInvokeError | undefined
  #settling: Promise<void> | undefined
  /** A later `before` of the same invocation (a Middy handler that calls another) joins; its hooks are no end. */
  #openRequests = 1

  constructor(
    request: Request,
    facts: { requestId: string; remainingTime: number; isHeld: boolean; isGated: boolean },
    options: InvocationOptions,
    host: InvocationHost,
  ) {
    this.#request = request
    this.#host = host
    this.#options = options
    this.requestId = facts.requestId
    this.isHeld = facts.isHeld
    this.isGated = facts.isGated
    this.#deadline = Date.now() + facts.remainingTime
    this.#abortAt = this.#deadline - options.deadlineMargin
    this.#letGoAt = this.#deadline - RELEASE_MARGIN_MS
    this.#stack = createTaskStack({
      order: options.order,
      concurrency: options.concurrency,
      run: entry => this.#run(entry),
    })
  }

  get isInHandler(): boolean {
    return this.#phase === 'handler'
  }

  /** What would be lost if the process ended now: running tasks first, then those that wait, at most `MAX_NAMES`. */
  get unfinished(): TaskList {
    const running = [...this.#running]
    const names = [...running, ...this.#stack.next(MAX_NAMES)].slice(0, MAX_NAMES).map(({ label }) => label)
    return { names, more: running.length + this.#stack.size - names.length }
  }

  /** `context.defer`. An arrow function: people take it off the context. */
  readonly defer: Defer = (task, options) => {
    const valid = validateTask(task, options)
    if (this.#phase === 'settled') {
      throw new PostInvokeError(
        'ERR_NO_INVOCATION',
        `Expected defer() to be called before its invocation ends, got a call after request ${this.requestId} had settled. Await what defers, in the handler or in a task.`,
      )
    }
    this.#deferred++
    this.#stack.push({
      ...valid,
      label: valid.name ?? `task ${this.#deferred}`,
      enter: this.#host.snapshot(),
    })
    this.#host.onDefer()
  }

  join(): void {
    this.#openRequests++
  }

  leave(): void {
    this.#openRequests--
  }

  /** Whether the hooks of all its requests have ended. */
  get isLeft(): boolean {
    return this.#openRequests === 0
  }

  /** For where nothing holds the environment: what is deferred by now runs while the answer waits. */
  runBeforeAnswer(): Promise<void> | undefined {
    return this.#stack.size > 0 ? this.#drain() : undefined
  }

  /** The response has been posted. Resolves, and never rejects, when the invocation has settled. */
  depart(): Promise<void> {
    this.#settling ??= this.#depart()
    return this.#settling
  }

  async #depart(): Promise<void> {
    try {
      this.#phase = 'departed'
      const streaming = this.#host.streaming(this)
      if (streaming) await this.#bounded(streaming)
      if (this.#stack.size > 0) {
        // Lets the client ask for its next invocation first, where it is not us that it waits for.
        if (!this.isGated) await turn()
        const ready = this.#host.ready(this)
        if (ready) await ready
      }
      while (this.#stack.size > 0) {
        this.#tell()
        await this.#drain()
        if (Date.now() >= this.#abortAt) {
          // Something that was left behind and defers for ever may not hold for ever.
          for (const entry of this.#stack.takeAll()) this.#notStarted(entry)
          break
        }
        // A rejection that a task left unhandled ends the process in this turn, while we still hold.
        await turn()
      }
    } catch (error) {
      this.#host.log.error(
        `a fault of ours ended request ${this.requestId}; unfinished: ${listTasks(this.unfinished)}`,
        error,
      )
    } finally {
      this.#phase = 'settled'
      this.#host.onSettled(this)
    }
  }

  /**
   * The environment ends before this invocation has: what has not run yet runs now.
   *
   * @param milliseconds - How long that may take.
   */
  async runAtShutdown(milliseconds: number): Promise<void> {
    if (this.#phase === 'handler') {
      this.#shutdown = new PostInvokeError(
        'ERR_SHUTDOWN',
        `Expected request ${this.requestId} to end before its environment: the function timed out, or was shut down.`,
      )
      this.hasThrown = true
    }
    this.#deadline = Date.now() + milliseconds
    this.#letGoAt = this.#deadline
    this.#abortAt = this.#deadline - Math.min(ABORT_GRACE_MS, milliseconds / 2)
    this.#aborted = undefined
    await this.#drain()
  }

  async #drain(): Promise<void> {
    const end =
      this.#abortAt === Number.POSITIVE_INFINITY ? undefined : setTimeout(() => this.#timeIsUp(), this.#untilAbort)
    // While the client waits for our promise, or for the answer, this timer is what keeps an otherwise idle process alive.
    if (!this.#keepsAlive) end?.unref()
    try {
      await this.#stack.drain()
    } finally {
      clearTimeout(end)
    }
  }

  get #keepsAlive(): boolean {
    return this.isGated || this.#phase === 'handler'
  }

  readonly #getRemainingTime = () => this.#deadline - Date.now()

  get #untilAbort(): number {
    return Math.max(0, Math.min(this.#abortAt - Date.now(), MAX_TIMEOUT_MS))
  }

  /** `deadlineMargin` before the deadline: aborts what runs, waits for it a little, and goes without it. */
  #timeIsUp(): void {
    this.#aborted = new PostInvokeError(
      'ERR_TASK_DEADLINE',
      `Expected the tasks of request ${this.requestId} to end ${this.#options.deadlineMargin} ms before the function's deadline. Defer less, or raise the function's timeout.`,
    )
    const reason = this.#aborted
    for (const running of this.#running) running.abort(reason)
    const grace = Math.min(ABORT_GRACE_MS, this.#letGoAt - Date.now())
    const end = setTimeout(
      () => {
        for (const running of this.#running) running.abandon(reason)
      },
      Math.max(0, grace),
    )
    if (!this.#keepsAlive) end.unref()
  }

  #run(entry: TaskEntry): Promise<void> | undefined {
    const { outcome } = this
    if (entry.on !== 'always' && entry.on !== outcome) {
      this.#host.log.debug(`task ${quote(entry.label)} of request ${this.requestId} is not for the outcome ${outcome}`)
      return undefined
    }
    // Timers cannot fire between tasks that never yield, so the time is looked at as well.
    if (this.#aborted || Date.now() >= this.#abortAt) return this.#notStarted(entry)

    const running = new RunningTask(
      entry,
      {
        awsRequestId: this.requestId,
        outcome,
        error: outcome === 'error' ? (this.#shutdown ?? this.#request.error) : undefined,
        getRemainingTimeInMillis: this.#getRemainingTime,
      },
      { timeout: entry.timeout ?? this.#options.taskTimeout, ref: this.#keepsAlive },
    )
    this.#running.add(running)
    this.#tell()
    const failure = running.run()
    if (failure instanceof Promise) return failure.then(late => this.#ended(running, late))
    return this.#ended(running, failure)
  }

  #notStarted({ label, isPromise }: TaskEntry): Promise<void> {
    return this.#failed(
      label,
      new PostInvokeError(
        'ERR_TASK_DEADLINE',
        `Expected the task ${quote(label)} to start ${this.#options.deadlineMargin} ms or more before the function's deadline. It has not been ${isPromise ? 'waited for' : 'started'}.`,
      ),
    )
  }

  #ended(running: RunningTask, failure: Failure | undefined): Promise<void> | undefined {
    this.#running.delete(running)
    this.#tell()
    return failure && this.#failed(running.label, failure.error)
  }

  /** Every failure is logged once, by name and request. */
  async #failed(label: string, error: unknown): Promise<void> {
    const { log } = this.#host
    log.error(`task ${quote(label)} of request ${this.requestId} failed:`, error)
    const { onTaskError } = this.#options
    if (!onTaskError) return
    try {
      const result = onTaskError(error, { name: label, awsRequestId: this.requestId })
      if (isThenable(result)) await this.#bounded(result)
    } catch (hookError) {
      log.error(`onTaskError failed for task ${quote(label)} of request ${this.requestId}:`, hookError)
    }
  }

  get outcome(): 'success' | 'error' {
    return this.hasThrown ? 'error' : 'success'
  }

  /** Tells which tasks are left, where that has changed. Of very many, only when they are few again. */
  #tell(): void {
    if (this.#phase !== 'departed') return
    const left = this.#running.size + this.#stack.size
    if (left === this.#told || (left > MAX_NAMES && this.#told !== undefined)) return
    this.#told = left
    this.#host.onTasks(this)
  }

  /** Waits no longer than until the companions let go. */
  async #bounded(work: PromiseLike<unknown>): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const limit = Math.min(Math.max(0, this.#letGoAt - Date.now()), MAX_TIMEOUT_MS)
    const bound = new Promise<void>(resolve => {
      timer = setTimeout(resolve, limit)
      if (!this.#keepsAlive) timer.unref()
    })
    try {
      await Promise.race([work, bound])
    } finally {
      clearTimeout(timer)
    }
  }
}

const turn = () => new Promise<void>(resolve => setImmediate(resolve))

const quote = (name: string) => JSON.stringify(name)
