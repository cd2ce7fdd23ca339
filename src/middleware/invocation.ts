// One invocation: the tasks deferred in it, and what happens to each of them once the response has left.
import { PostInvokeError } from '../errors.ts'
import type { Log } from '../log.ts'
import { type HoldMessage, tellUnstarted, trace, type UnstartedTaskMessage } from './channels.ts'
import type { HeldInvocation } from './companion.ts'
import {
  ABORT_GRACE_MS,
  type AsyncContext,
  type Failure,
  MAX_TIMEOUT_MS,
  type OriginFacts,
  RunningTask,
  type TaskEntry,
  taskMessage,
} from './running-task.ts'
import { type Defer, isThenable, validateTask } from './task.ts'
import { createTaskStack, type Order, type TaskStack } from './task-stack.ts'

/** The companions let go this long before the function's deadline: past it a good answer would become a timeout. */
const RELEASE_MARGIN_MS = 100

/** How many tasks are named, each by itself or in a list; of more, a number is told. */
const MAX_NAMES = 50

/** How much of a task's name a list holds. */
const MAX_NAME_LENGTH = 100

/** Tasks by name, at most {@link MAX_NAMES}, and how many more there are. */
type TaskList = { readonly names: readonly string[]; readonly more: number }

/** For log lines: `"audit", "analytics" and 3 more`. */
export const listTasks = ({ names, more }: TaskList): string =>
  names.map(name => JSON.stringify(name)).join(', ') + (more > 0 ? ` and ${more} more` : '')

export type InvocationOptions = {
  order: Order
  concurrency: number
  taskTimeout: number | undefined
  deadlineMargin: number
  onTaskError: ((error: unknown, task: { name: string; awsRequestId: string }) => unknown) | undefined
  onDeadline: 'carry' | 'drop' | undefined
  maxCarried: number
  /** Called with each hold that has ended, while it still holds. */
  onHold?: (hold: HoldMessage) => Promise<void>
}

export type InvocationHost = {
  readonly log: Log
  /** The async context in which this was called, to run a function in. */
  asyncContext(): AsyncContext
  onDefer(): void
  onSettled(invocation: Invocation): void
  /** Whether tasks that the deadline has kept from starting can still be run at the end of the environment. */
  canCarry(): boolean
  /** Keeps a task for what runs next in this environment. Returns those that are too many, the oldest. */
  carry(task: CarriedTask, maxCarried: number): CarriedTask[]
  /** Hands out what has been carried so far, oldest first. */
  takeCarried(): CarriedTask[]
  /** The response, where it is streamed and not yet accepted. */
  streaming(invocation: Invocation): Promise<void> | undefined
  /** Runs handed-off work until `deadline`, where there is some and this process is the one that runs it. */
  handedOff?(invocation: Invocation, deadline: number): Promise<void> | undefined
}

/** What an invocation needs of Middy's request: where it leaves what was thrown. */
type Request = { error?: unknown }

/** A task that runs in the time of a later invocation, or at the end of the environment. */
export type CarriedTask = { readonly entry: TaskEntry; readonly origin: Invocation }

export class Invocation {
  readonly requestId: string
  /** Whether the environment is held for the tasks, so that they can run after the response. */
  readonly isHeld: boolean
  /** Whether nothing but our promise keeps the process alive meanwhile, with no `next` of the client pending. */
  readonly isGated: boolean
  readonly #companion: HeldInvocation | undefined
  readonly #request: Request
  readonly #host: InvocationHost
  readonly #options: InvocationOptions
  #deadline: number
  /** When tasks are aborted, and when not even their end is waited for any longer. */
  #abortAt: number
  #letGoAt: number
  #shutdown: PostInvokeError | undefined
  /** In whose time its carried tasks run: what they defer in turn runs there too. */
  #heir: Invocation | undefined
  /** Whose carried tasks run in our time. */
  readonly #origins = new Set<Invocation>()
  readonly #stack: TaskStack<TaskEntry>
  readonly #running = new Set<RunningTask>()
  #phase: 'handler' | 'departed' | 'settled' = 'handler'
  /** Of the request that opened it: what an inner handler throws is for the outer one to deal with. Set by `watchedError`. */
  hasThrown = false
  #deferred = 0
  #told: string | undefined
  #lateFailures = 0
  /** For those who watch: how many tasks were started, have failed and were carried over. */
  #tasks = 0
  #failures = 0
  #carries = 0
  #aborted: PostInvokeError | undefined
  #settling: Promise<void> | undefined
  /** A later `before` of the same invocation (a Middy handler that calls another) joins; its hooks are no end. */
  #openRequests = 1

  constructor(
    request: Request,
    facts: {
      requestId: string
      remainingTime: number
      isHeld: boolean
      isGated: boolean
      companion: (deadline: () => number) => HeldInvocation | undefined
    },
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
    this.#companion = facts.companion(() => this.#deadline)
    this.#stack = createTaskStack({
      order: options.order,
      concurrency: options.concurrency,
      run: entry => this.#run(entry),
    })
  }

  get isInHandler(): boolean {
    return this.#phase === 'handler'
  }

  get isSettled(): boolean {
    return this.#phase === 'settled'
  }

  /** What would be lost if the process ended now: running tasks first, then those that wait, at most `MAX_NAMES`. */
  get unfinished(): TaskList {
    const running = [...this.#running]
    const entries = [...running.map(({ entry }) => entry), ...this.#stack.next(MAX_NAMES)].slice(0, MAX_NAMES)
    const names = entries.map(({ label }) => label.slice(0, MAX_NAME_LENGTH))
    return { names, more: running.length + this.#stack.size() - names.length }
  }

  /** `context.defer`. An arrow function: people take it off the context. */
  readonly defer: Defer = (task, options) => {
    const valid = validateTask(task, options)
    if (this.#phase === 'settled' && !this.#heir) {
      throw new PostInvokeError(
        'ERR_NO_INVOCATION',
        `Expected defer() to be called before its invocation ends, got a call after request ${this.requestId} had settled. Await what defers, in the handler or in a task.`,
      )
    }
    if (this.#deferred++ === 0) this.#watchError()
    const entry: TaskEntry = {
      ...valid,
      label: valid.name ?? `task ${this.#deferred}`,
      index: this.#deferred,
      asyncContext: this.#host.asyncContext(),
      isLate: Date.now() >= this.#abortAt,
    }
    if (this.#heir) this.#heir.#stack.push({ ...entry, carried: this.#facts })
    else this.#stack.push(entry)
    this.#tell() // in a streamed body: the hooks have ended by then
    this.#host.onDefer()
  }

  /** Nobody asks for the outcome before there is a task. */
  #watchError(): void {
    this.hasThrown ||= this.#request.error !== undefined
    Object.defineProperties(this.#request, {
      [WATCHED]: { value: { invocation: this, error: this.#request.error } },
      error: watchedError,
    })
  }

  join(): void {
    this.#openRequests++
  }

  leave(): void {
    this.#openRequests--
    // Before the answer leaves: a process that is killed between the two tells nothing any more.
    this.#tell()
  }

  /** Whether the hooks of all its requests have ended. */
  get isLeft(): boolean {
    return this.#openRequests === 0
  }

  /** For where nothing holds the environment: what is deferred by now runs while the answer waits. */
  runBeforeAnswer(): Promise<void> | undefined {
    const drained = this.#stack.size() > 0 ? this.#drain() : undefined
    return drained ? drained.then(() => this.#handedOff()) : this.#handedOff()
  }

  /** Comes after the tasks, which may hand off too. */
  #handedOff(): Promise<void> | undefined {
    const running = this.#host.handedOff?.(this, this.#abortAt)
    return running && this.#bounded(running)
  }

  /** The response has been posted. Resolves, and never rejects, when the invocation has settled. */
  depart(): Promise<void> {
    this.#settling ??= this.#depart()
    return this.#settling
  }

  async #depart(): Promise<void> {
    let endHold: (() => Promise<void> | undefined) | undefined
    try {
      this.#phase = 'departed'
      const streaming = this.#host.streaming(this)
      if (streaming) await this.#bounded(streaming)
      while (this.#hasWork()) {
        endHold ??= this.#beginHold()
        await this.#runAll()
      }
      const handedOff = this.#handedOff()
      if (handedOff) {
        endHold ??= this.#beginHold()
        await handedOff
      }
    } catch (error) {
      this.#host.log.error(
        `a fault of ours ended request ${this.requestId}; unfinished: ${listTasks(this.unfinished)}`,
        error,
        { requestId: this.requestId, tasks: this.unfinished.names },
      )
      this.#stack.takeAll() // named just now
    } finally {
      // In one go: what is deferred is either among these, or refused.
      const notStarted = this.#stack.takeAll()
      if (notStarted.length > 0) endHold ??= this.#beginHold()
      const report = this.#notStartedAll(notStarted)
      this.#phase = 'settled'
      for (const origin of this.#origins) origin.#heir = undefined
      if (report) await report
      const told = endHold?.()
      if (told) await told
      this.#companion?.settle()
      this.#host.onSettled(this)
    }
  }

  /** @returns what ends it; `undefined` where nothing holds. */
  #beginHold(): (() => Promise<void> | undefined) | undefined {
    if (!this.isHeld) return undefined
    const { requestId: awsRequestId, outcome } = this
    this.#companion?.hold()
    const start = performance.now()
    const traced = trace('hold', () => ({ awsRequestId, outcome }))
    traced?.run(() => {})
    return () => {
      const milliseconds = performance.now() - start
      const sums = { tasks: this.#tasks, failed: this.#failures, carried: this.#carries, milliseconds }
      traced?.end(sums)
      const told = this.#options.onHold?.({ awsRequestId, outcome, ...sums })
      return told && this.#bounded(told.catch(error => this.#logLostMetric(error)))
    }
  }

  #logLostMetric(error: unknown): void {
    const { requestId } = this
    this.#host.log.error(`the metrics of request ${requestId} could not be written:`, error, { requestId })
  }

  /** Whether there is something to run and time to run it: our own, then what earlier deadlines have kept from starting. */
  #hasWork(): boolean {
    if (Date.now() >= this.#abortAt) return false
    if (this.#stack.size() > 0) return true
    if (!this.isHeld) return false
    const carried = this.#host.takeCarried()
    for (const { entry, origin } of this.#options.order === 'lifo' ? carried.toReversed() : carried) {
      origin.#heir = this
      this.#origins.add(origin)
      this.#stack.push(entry)
    }
    return carried.length > 0
  }

  async #runAll(): Promise<void> {
    // Lets the client ask for its next invocation first, where it is not us that it waits for.
    if (!this.isGated) await turn()
    this.#tell()
    await this.#drain()
    // A rejection that a task left unhandled ends the process in this turn, while we still hold.
    await turn()
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

  /** The environment ends, and these have been carried so far. */
  async runCarriedAtShutdown(entries: readonly TaskEntry[], milliseconds: number): Promise<void> {
    this.#heir = this
    for (const entry of entries) this.#stack.push(entry)
    await this.runAtShutdown(milliseconds)
  }

  async #drain(): Promise<void> {
    // While the client waits for our promise, or for the answer, this timer is what keeps an otherwise idle process alive:
    // then there is one without a deadline too.
    let end: NodeJS.Timeout | undefined
    if (this.#keepsAlive || this.#abortAt !== Number.POSITIVE_INFINITY) {
      end = this.#setTimer(() => {
        end = this.#timeIsUp()
      }, this.#abortAt - Date.now())
    }
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

  #setTimer(fn: () => void, milliseconds: number): NodeJS.Timeout {
    const timer = setTimeout(fn, Math.max(0, Math.min(milliseconds, MAX_TIMEOUT_MS)))
    if (!this.#keepsAlive) timer.unref()
    return timer
  }

  /** `deadlineMargin` before the deadline: aborts what runs, waits for it a little, and goes without it. */
  #timeIsUp(): NodeJS.Timeout {
    this.#aborted =
      this.#shutdown ??
      new PostInvokeError(
        'ERR_TASK_DEADLINE',
        `Expected the tasks of request ${this.requestId} to end ${this.#options.deadlineMargin} ms before the function's deadline. Defer less, or raise the function's timeout.`,
      )
    const reason = this.#aborted
    for (const running of this.#running) running.abort(reason)
    return this.#setTimer(
      () => {
        for (const running of this.#running) running.abandon(reason)
      },
      Math.min(ABORT_GRACE_MS, this.#letGoAt - Date.now()),
    )
  }

  get #facts(): OriginFacts {
    const { requestId: awsRequestId, outcome } = this
    const error = outcome === 'error' ? (this.#shutdown ?? this.#request.error) : undefined
    return { awsRequestId, outcome, error }
  }

  #run(entry: TaskEntry): Promise<void> | undefined {
    const facts = entry.carried ?? this.#facts
    if (entry.on !== 'always' && entry.on !== facts.outcome) {
      this.#host.log.debug(
        `task ${quote(entry.label)} of request ${facts.awsRequestId} is not for the outcome ${facts.outcome}`,
        { task: entry.label, requestId: facts.awsRequestId },
      )
      this.#tellUnstarted(entry, 'skipped')
      return undefined
    }
    // Timers cannot fire between tasks that never yield, so the time is looked at as well. All that waits goes at once:
    // one by one it could take longer than there is.
    if (this.#aborted || Date.now() >= this.#abortAt) return this.#notStartedAll([entry, ...this.#stack.takeAll()])
    return this.#start(entry, facts)
  }

  #start(entry: TaskEntry, facts: OriginFacts): Promise<void> | undefined {
    const running = new RunningTask(entry, facts, {
      timeout: entry.timeout ?? this.#options.taskTimeout,
      ref: this.#keepsAlive,
      getRemainingTimeInMillis: this.#getRemainingTime,
    })
    this.#running.add(running)
    this.#tasks++
    return running.run(failure => this.#ended(running, failure))
  }

  #notStartedAll(waiting: readonly TaskEntry[]): Promise<void> | undefined {
    const single = Math.max(MAX_NAMES, this.#options.maxCarried)
    const entries = waiting.filter(({ promise }) => !promise?.hasSettled)
    const reports = entries.slice(0, single).flatMap(entry => this.#notStarted(entry) ?? [])
    for (const entry of waiting) {
      // Its work is done: it counts as run, with its own outcome.
      if (entry.promise?.hasSettled) reports.push(Promise.resolve(this.#start(entry, entry.carried ?? this.#facts)))
    }
    for (let index = single; index < entries.length; index += MAX_NAMES) {
      const more = entries.slice(index, index + MAX_NAMES)
      const tasks = more.map(({ label }) => label)
      this.#host.log.error(
        `more tasks of request ${this.requestId} have not been started before the function's deadline: ${listTasks({ names: tasks, more: 0 })}`,
        undefined,
        { requestId: this.requestId, tasks },
      )
      this.#failures += more.length
      for (const entry of more) {
        this.#tellUnstarted(entry, 'dropped')
        this.#callHook(entry, this.#notStartedError(entry))
      }
    }
    return reports.length > 0 ? Promise.all(reports).then(() => {}) : undefined
  }

  /** Time is up before its turn. Once, it can be carried over. */
  #notStarted(entry: TaskEntry): Promise<void> | undefined {
    const { onDeadline = this.#host.canCarry() ? 'carry' : 'drop', maxCarried } = this.#options
    if (onDeadline === 'drop' || entry.carried || !this.isHeld || this.#shutdown) return this.#drop(entry)
    this.#host.log.warn(
      `task ${quote(entry.label)} of request ${this.requestId} could not start before the function's deadline. It is carried over to what runs next in this environment, if anything does.`,
      undefined,
      { task: entry.label, requestId: this.requestId },
    )
    this.#carries++
    this.#tellUnstarted(entry, 'carried')
    const tooMany = this.#host.carry({ entry: { ...entry, carried: this.#facts }, origin: this }, maxCarried)
    if (tooMany.length === 0) return undefined
    return Promise.all(tooMany.map(({ entry, origin }) => origin.#drop(entry))).then(() => {})
  }

  #drop(entry: TaskEntry): Promise<void> {
    this.#tellUnstarted(entry, 'dropped')
    return this.#failed(entry, this.#notStartedError(entry))
  }

  #tellUnstarted(entry: TaskEntry, status: UnstartedTaskMessage['status']): void {
    tellUnstarted(() => ({ ...taskMessage(entry, entry.carried ?? this.#facts), status }))
  }

  #notStartedError({ label, promise }: TaskEntry): PostInvokeError {
    return new PostInvokeError(
      'ERR_TASK_DEADLINE',
      `Expected the task ${quote(label)} to start ${this.#options.deadlineMargin} ms or more before the function's deadline. It has not been ${promise ? 'waited for' : 'started'}.`,
    )
  }

  #ended(running: RunningTask, failure: Failure | undefined): Promise<void> | undefined {
    this.#running.delete(running)
    this.#tell()
    return failure && this.#failed(running.entry, failure.error)
  }

  /** Every failure is logged once, by name and request. */
  async #failed(entry: TaskEntry, error: unknown): Promise<void> {
    this.#failures++
    const requestId = this.#requestIdOf(entry)
    const fields = { task: entry.label, requestId }
    this.#host.log.error(`task ${quote(entry.label)} of request ${requestId} failed:`, error, fields)
    const hook = this.#callHook(entry, error)
    if (hook && Date.now() < this.#letGoAt) await this.#bounded(hook)
  }

  /** Never throws, and its promise never rejects. */
  #callHook(entry: TaskEntry, error: unknown): Promise<void> | undefined {
    const { onTaskError } = this.#options
    // Of what is deferred when time is up no more than this: `onTaskError` could defer again and again.
    if (!onTaskError || (entry.isLate && ++this.#lateFailures > MAX_NAMES)) return undefined
    const awsRequestId = this.#requestIdOf(entry)
    const failed = (hookError: unknown) => {
      const fields = { task: entry.label, requestId: awsRequestId }
      this.#host.log.error(
        `onTaskError failed for task ${quote(entry.label)} of request ${awsRequestId}:`,
        hookError,
        fields,
      )
    }
    try {
      const facts = { name: entry.label, awsRequestId }
      const result = entry.asyncContext.runInAsyncScope(onTaskError, undefined, error, facts)
      return isThenable(result) ? new Promise<unknown>(adopt => adopt(result)).then(() => {}, failed) : undefined
    } catch (hookError) {
      failed(hookError)
      return undefined
    }
  }

  #requestIdOf({ carried }: TaskEntry): string {
    return carried?.awsRequestId ?? this.requestId
  }

  get outcome(): 'success' | 'error' {
    return this.hasThrown ? 'error' : 'success'
  }

  /** Tells which tasks are left, where that has changed. Of very many, only when they are few again. */
  #tell(): void {
    if (!this.#companion || this.#phase === 'settled' || (this.#phase === 'handler' && !this.isLeft)) return
    const isMany = this.#running.size + this.#stack.size() > MAX_NAMES
    if (isMany && this.#told !== undefined) return
    const left = listTasks(this.unfinished)
    if (left === (this.#told ?? '')) return
    this.#told = left
    this.#companion.wouldLose(this.unfinished.names, left)
  }

  /** Waits no longer than until the companions let go. */
  async #bounded(work: PromiseLike<unknown>): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const bound = new Promise<void>(resolve => {
      timer = this.#setTimer(resolve, this.#letGoAt - Date.now())
    })
    try {
      await Promise.race([work, bound])
    } finally {
      clearTimeout(timer)
    }
  }
}

const WATCHED = Symbol('middy-post-invoke error')
type Watched = { [WATCHED]: { invocation: Invocation; error: unknown } }

/**
 * Middy assigns to `error` what the handler or a middleware threw. The value alone does not tell: anything can be thrown,
 * `undefined` too. One pair of functions for all requests: V8 makes a hidden class of each pair that it is given, and all
 * that the pair refers to lives on with it until the whole heap is collected.
 */
const watchedError: PropertyDescriptor & ThisType<Watched> = {
  configurable: true,
  enumerable: true,
  get() {
    return this[WATCHED].error
  },
  set(error) {
    this[WATCHED].error = error
    this[WATCHED].invocation.hasThrown = true
  },
}

const turn = () => new Promise<void>(resolve => setImmediate(resolve))

const quote = (name: string) => JSON.stringify(name)
