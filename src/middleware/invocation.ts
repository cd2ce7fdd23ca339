// One invocation: the tasks deferred in it, and what happens to each of them once the response has left.
import { PostInvokeError } from '../errors.ts'
import { RELEASE_MARGIN_MS } from '../extension/hold.ts'
import { MAX_NAMES } from '../extension/link.ts'
import type { Log } from '../log.ts'
import { type Defer, isThenable, type TaskContext, type ValidTask, validateTask } from './task.ts'
import { createTaskStack, type Order, type TaskStack } from './task-stack.ts'

/** An aborted task has this long to clean up. Then it is reported and no longer waited for. */
const ABORT_GRACE_MS = 100

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

type Entry = ValidTask & {
  readonly label: string
  readonly enter: ReturnType<InvocationHost['snapshot']>
}

type Running = {
  readonly entry: Entry
  abort(reason: PostInvokeError): void
  /** Waits no longer. */
  abandon(): void
}

export class Invocation {
  readonly requestId: string
  /** Whether the environment is held for the tasks, so that they can run after the response. */
  readonly isHeld: boolean
  /** Whether nothing but our promise keeps the process alive meanwhile, with no `next` of the client pending. */
  readonly isGated: boolean
  readonly #request: Request
  readonly #host: InvocationHost
  readonly #options: InvocationOptions
  readonly #deadline: number
  readonly #stack: TaskStack<Entry>
  readonly #running = new Set<Running>()
  #phase: 'handler' | 'departed' | 'settled' = 'handler'
  /** Set by `onError`, because anything can be thrown, `undefined` too. */
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
    this.#stack = createTaskStack({
      order: options.order,
      concurrency: options.concurrency,
      run: entry => this.#run(entry),
    })
  }

  get isDeparted(): boolean {
    return this.#phase === 'departed'
  }

  /** What would be lost if the process ended now: running tasks first, then those that wait, at most `MAX_NAMES`. */
  get unfinished(): { names: string[]; more: number } {
    const running = Array.from(this.#running, ({ entry }) => entry)
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

  /** @returns whether all hooks of this invocation have ended. */
  leave(): boolean {
    return --this.#openRequests <= 0
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
        this.#tell()
        await this.#drain()
        // A rejection that a task left unhandled ends the process in this turn, while we still hold.
        await turn()
      }
    } catch (error) {
      this.#host.log.error(`a fault of ours ended request ${this.requestId}${this.#listUnfinished()}`, error)
    } finally {
      this.#phase = 'settled'
      this.#host.onSettled(this)
    }
  }

  async #drain(): Promise<void> {
    const end =
      this.#abortTime === Number.POSITIVE_INFINITY ? undefined : setTimeout(() => this.#timeIsUp(), this.#untilAbort)
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

  get #abortTime(): number {
    return this.#deadline - this.#options.deadlineMargin
  }

  get #untilAbort(): number {
    return Math.max(0, Math.min(this.#abortTime - Date.now(), MAX_TIMEOUT_MS))
  }

  /** `deadlineMargin` before the deadline: aborts what runs, waits for it a little, and goes without it. */
  #timeIsUp(): void {
    this.#aborted = new PostInvokeError(
      'ERR_TASK_DEADLINE',
      `Expected the tasks of request ${this.requestId} to end ${this.#options.deadlineMargin} ms before the function's deadline. Defer less, or raise the function's timeout.`,
    )
    for (const running of this.#running) running.abort(this.#aborted)
    const grace = Math.min(ABORT_GRACE_MS, this.#deadline - RELEASE_MARGIN_MS - Date.now())
    const end = setTimeout(
      () => {
        for (const running of this.#running) running.abandon()
      },
      Math.max(0, grace),
    )
    if (!this.#keepsAlive) end.unref()
  }

  #run(entry: Entry): Promise<void> | undefined {
    const { outcome } = this
    if (entry.on !== 'always' && entry.on !== outcome) {
      this.#host.log.debug(`task ${quote(entry.label)} of request ${this.requestId} is not for the outcome ${outcome}`)
      return undefined
    }
    // Timers cannot fire between tasks that never yield, so the time is looked at as well.
    if (this.#aborted || Date.now() >= this.#abortTime) {
      return this.#failed(
        entry,
        new PostInvokeError(
          'ERR_TASK_DEADLINE',
          `Expected the task ${quote(entry.label)} to start ${this.#options.deadlineMargin} ms or more before the function's deadline. It has not been started.`,
        ),
      )
    }

    const { controller, context } = this.#createContext(entry)
    let result: unknown
    try {
      result = entry.enter(entry.task, context)
      if (!isThenable(result)) return undefined
    } catch (error) {
      return this.#failed(entry, error)
    }
    return this.#waitFor(entry, result, controller)
  }

  #createContext(entry: Entry): { controller: () => AbortController; context: TaskContext } {
    // Made when the task asks for it: most never do, and one costs more than the rest of a task's start.
    let made: AbortController | undefined
    const controller = () => {
      made ??= new AbortController()
      return made
    }
    const { requestId, outcome } = this
    const { error } = this.#request
    const deadline = this.#deadline
    const context: TaskContext = {
      get signal() {
        return controller().signal
      },
      name: entry.label,
      awsRequestId: requestId,
      outcome,
      error: error ?? undefined,
      getRemainingTimeInMillis: () => deadline - Date.now(),
    }
    return { controller, context }
  }

  /** Resolves when the task has ended, or when it has been aborted and has not ended soon. */
  #waitFor(entry: Entry, result: PromiseLike<unknown>, controller: () => AbortController): Promise<void> {
    return new Promise(resolve => {
      const timeout = entry.timeout ?? this.#options.taskTimeout
      let reason: PostInvokeError | undefined
      let timer: NodeJS.Timeout | undefined

      const end = (failure?: { error: unknown }) => {
        if (!this.#running.delete(running)) return
        clearTimeout(timer)
        const reporting = failure && this.#failed(entry, failure.error)
        this.#tell()
        if (reporting) reporting.then(resolve)
        else resolve()
      }
      const running: Running = {
        entry,
        abort(because) {
          reason ??= because
          controller().abort(reason)
        },
        abandon: () =>
          end({ error: reason ?? new PostInvokeError('ERR_TASK_DEADLINE', 'Expected the task to end in time.') }),
      }
      this.#running.add(running)
      this.#tell()
      if (timeout !== undefined) {
        timer = setTimeout(() => {
          running.abort(
            new PostInvokeError(
              'ERR_TASK_TIMEOUT',
              `Expected the task ${quote(entry.label)} to end within its timeout of ${timeout} ms.`,
            ),
          )
          timer = setTimeout(running.abandon, ABORT_GRACE_MS)
          if (!this.#keepsAlive) timer.unref()
        }, timeout)
        if (!this.#keepsAlive) timer.unref()
      }
      Promise.resolve(result).then(
        () => end(),
        error => end({ error }),
      )
    })
  }

  /** Every failure is logged once, by name and request. */
  async #failed(entry: Entry, error: unknown): Promise<void> {
    const { log } = this.#host
    log.error(`task ${quote(entry.label)} of request ${this.requestId} failed:`, error)
    const { onTaskError } = this.#options
    if (!onTaskError) return
    try {
      const result = onTaskError(error, { name: entry.label, awsRequestId: this.requestId })
      if (isThenable(result)) await this.#bounded(result)
    } catch (hookError) {
      log.error(`onTaskError failed for task ${quote(entry.label)} of request ${this.requestId}:`, hookError)
    }
  }

  get outcome(): 'success' | 'error' {
    return this.hasThrown || (this.#request.error ?? undefined) !== undefined ? 'error' : 'success'
  }

  /** Tells which tasks are left, where that has changed. Of very many, only when they are few again. */
  #tell(): void {
    if (this.#phase !== 'departed') return
    const left = this.#running.size + this.#stack.size
    if (left === this.#told || (left > MAX_NAMES && this.#told !== undefined)) return
    this.#told = left
    this.#host.onTasks(this)
  }

  #listUnfinished(): string {
    const { names, more } = this.unfinished
    if (names.length === 0) return ''
    return `; unfinished: ${names.map(quote).join(', ')}${more > 0 ? ` and ${more} more` : ''}`
  }

  /** Waits no longer than until the companions let go. */
  async #bounded(work: PromiseLike<unknown>): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const limit = Math.min(Math.max(0, this.#deadline - RELEASE_MARGIN_MS - Date.now()), MAX_TIMEOUT_MS)
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

/** What setTimeout can count: past it, it fires at once. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1

const turn = () => new Promise<void>(resolve => setImmediate(resolve))

const quote = (name: string) => JSON.stringify(name)
