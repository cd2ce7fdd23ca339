// One invocation: the tasks deferred in it, and what becomes of each once the response has left.
//
//   open ── the response has left ──▶ left ── its tasks have ended ──▶ settled
//                                      └─ some could not start in time ─▶ carried ── a later drain ──▶ settled
//
// Tasks run by drain(), in the time that it is lent: before the answer, after it, in a later invocation or at shutdown.
import { type Failure, PostInvokeError, quote } from '../errors.ts'
import type { Log, LogFields } from '../log.ts'
import { type HoldMessage, tellUnstarted, trace, type UnstartedTaskMessage } from './channels.ts'
import type { Reporter } from './companion.ts'
import { createTask, type Defer, type DeferredTask } from './defer-input.ts'
import {
  ABORT_GRACE_MS,
  abortTasks,
  type InvocationFacts,
  messageOf,
  type RunOptions,
  runTask,
} from './deferred-task.ts'
import { createTaskStack, type Order } from './task-stack.ts'
import { all, clearTimeout, isThenable, now, outcomeOf, timer, turn, withLimit } from './waits.ts'

export type InvocationOptions = {
  order: Order
  concurrency: number
  taskTimeout: number | undefined
  deadlineMargin: number
  onTaskError: ((error: unknown, task: { name: string; awsRequestId: string }) => unknown) | undefined
  onDeadline: 'carry' | 'drop' | undefined
  maxCarried: number
}

/** What an invocation is told as it begins. */
export type InvocationStart = {
  readonly requestId: string
  /** Where the function isolates tenants. */
  readonly tenantId?: string | undefined
  /** Milliseconds until the function's deadline, `Infinity` where there is none. */
  readonly remainingTime: number
  /** Whether the environment is held for the tasks, so that they can run after the response. */
  readonly isHeld: boolean
  /** Whether it is held by the gate: with no `next` of the client pending, nothing but a timer keeps the process alive. */
  readonly isHeldByGate: boolean
  /** Reports it to the companion's process, where there is one. */
  readonly reporter: Reporter | undefined
}

/** What there is once in a process. */
export type InvocationHost = {
  readonly log: Log
  onDefer(): void
  /** Has the tasks of invocations that are open then named, each once, when their time is up. */
  nameBefore(time: number): void
  /** The response, where it is streamed and not yet accepted. */
  streaming(requestId: string): Promise<void> | undefined
  /**
   * Runs handed-off work, where this process is the one that runs it.
   *
   * @param deadline - Until when, in milliseconds since the epoch.
   * @param invocation - After whose response; without one the environment ends.
   */
  handedOff(deadline: number, invocation?: Invocation): Promise<void> | undefined
  /** Whether tasks that the deadline has kept from starting can still run at the end of the environment. */
  canCarry(): boolean
  /** The invocations with such tasks, the oldest first. */
  readonly carried: Invocation[]
  /** An invocation has settled. */
  afterSettled(): void
}

/** The time in which tasks run. It is lent by an invocation, or by the shutdown. On the clock of `performance.now()`. */
export type Time = {
  /** When running tasks are aborted, and no other one is started. */
  readonly abortAt: number
  /** When not even their end is waited for any longer. */
  readonly letGoAt: number
  /** The function's deadline. */
  readonly deadline: number
  /** Whether a timer has to keep the process alive. */
  keepsAlive: boolean
  /** Whether the environment ends, and no invocation lends it. */
  readonly isShutdown: boolean
  /** What became of the tasks, for those who watch. */
  readonly sums: { tasks: number; failed: number; carried: number }
  /** A task has ended. */
  readonly onChange?: () => void
}

export type Invocation = {
  readonly requestId: string
  readonly tenantId: string | undefined
  readonly isHeld: boolean
  readonly defer: Defer
  /** Whether its response has not left. */
  isOpen(): boolean
  /** Whether hooks of its requests are still to run: further handlers can join it. */
  isInHandler(): boolean
  isSettled(): boolean
  /** Milliseconds until the function's deadline, `Infinity` where there is none. */
  remainingTime(): number
  /** A handler called inside of the handler opens it once more. */
  open(): void
  /** The hooks of a request have ended. @returns whether those of all have. */
  close(): boolean
  /** Marks the outcome as an error. `request.error` alone does not do: `undefined` can be thrown. */
  fail(): void
  /** For where nothing holds the environment: what is deferred by now runs while the answer waits. */
  drainBeforeAnswer(): Promise<void> | undefined
  /**
   * The response has left. Resolves, and never rejects, when the invocation has settled.
   *
   * @param isGuessed - Whether hooks may still be running. A later `defer()` then runs its task instead of throwing.
   */
  leave(isGuessed?: boolean): Promise<void>
  /** Runs tasks in the time of another: those that wait from a deadline before, or all, at shutdown. */
  drainWithin(time: Time): Promise<void>
  /** Drops the oldest of its carried tasks, and puts the others back as they were deferred. @returns how many were dropped. */
  dropOldest(count: number): number
  /** How many tasks wait. */
  size(): number
  /** What would be lost if the process ended now. */
  unfinished(): TaskList
  /** Keeps up to date what the companion's process would name. */
  tellUnfinished(): void
}

/** The names of tasks, at most {@link MAX_NAMES}, and for log lines: `"audit", "analytics" and 3 more`. */
type TaskList = { readonly names: readonly string[]; readonly text: string }

/**
 * The companions let go this long before the function's deadline: past it a good answer would become a timeout. As `margin` in
 * post-invoke.sh, and the least `deadlineMargin`.
 */
export const RELEASE_MARGIN_MS = 100

/** How many tasks a line of log names. */
const MAX_NAMES = 50

/** How many failures of tasks that were deferred too late `onTaskError` is told of. */
const MAX_LATE_FAILURES = 50

/**
 * @param request - Middy's, or the like of it: it leaves in `error` what was thrown.
 */
export function createInvocation(
  request: { readonly error?: unknown },
  { requestId, tenantId, remainingTime, isHeld, isHeldByGate, reporter }: InvocationStart,
  options: InvocationOptions,
  host: InvocationHost,
): Invocation {
  const deadline = now() + remainingTime
  const running = new Set<DeferredTask>()
  const stack = createTaskStack({ order: options.order, concurrency: options.concurrency, mayStart, run })
  const ownTime: Time = {
    abortAt: deadline - options.deadlineMargin,
    letGoAt: deadline - RELEASE_MARGIN_MS,
    deadline,
    keepsAlive: true, // before the answer
    isShutdown: false,
    sums: { tasks: 0, failed: 0, carried: 0 },
  }
  /** That in which tasks run. */
  let time = ownTime
  /** Made as each drain begins. */
  let runOptions: RunOptions
  let state: 'open' | 'left' | 'carried' | 'settled' = 'open'
  let openRequests = 1 // nested handlers count
  let hasThrown = false
  let shutdownError: PostInvokeError | undefined
  let deferred = 0
  let isGuessed: boolean | undefined
  let lateFailures = 0
  let leaving: Promise<void> | undefined
  /** Whose carried tasks run in our time. */
  let guest: Invocation | undefined
  let isAborted = false
  let timeLimit: NodeJS.Timeout | undefined
  let lastTold = ''
  /** Whether the companion was told that all is done. From then on its file is the next invocation's, even for our carried tasks. */
  let isLetGo = false

  const invocation: Invocation = {
    requestId,
    tenantId,
    isHeld,
    defer,
    isOpen: () => state === 'open',
    isInHandler: () => state === 'open' && openRequests > 0,
    isSettled: () => state === 'settled',
    remainingTime: () => deadline - now(),
    open() {
      openRequests++
    },
    close() {
      if (--openRequests > 0) return false
      if (hasMany()) tellUnfinished(true)
      return true
    },
    fail() {
      hasThrown = true
    },
    drainBeforeAnswer() {
      if (openRequests > 1) return undefined // an inner handler's: the outer one is not done
      return stack.size() > 0 ? drain(ownTime).then(runHandedOff) : runHandedOff()
    },
    leave,
    async drainWithin(lent) {
      time = lent
      if (lent.isShutdown && state === 'open') shutdownError = tooLate(`request ${requestId} to end`)
      await drain(lent)
      await giveUpUnstarted()
      if (state === 'carried') state = 'settled'
    },
    dropOldest(count) {
      const tasks = stack.takeAll().sort((a, b) => a.index - b.index)
      const dropped = tasks.splice(0, count) // none where `count` is below 0
      void drop(dropped)
      for (const task of tasks) stack.push(task)
      if (tasks.length === 0) state = 'settled'
      return dropped.length
    },
    size: stack.size,
    unfinished,
    tellUnfinished,
  }
  return invocation

  // --- What is deferred

  function defer(given: unknown, taskOptions?: unknown): void {
    const task = createTask(given, taskOptions, deferred + 1, now() >= time.abortAt)
    if (state === 'settled' && !isGuessed) {
      throw new PostInvokeError(
        'ERR_NO_INVOCATION',
        `Expected defer() before request ${requestId} settled, got a call after.`,
      )
    }
    if (deferred++ === 0) expectTasks()
    stack.push(task)
    tellUnfinished() // now: a process that is killed tells nothing any more
    if (state === 'settled') {
      leaving = undefined
      void leave(true)
    }
  }

  function expectTasks(): void {
    host.onDefer()
    // Where the function times out, a companion's process names the tasks after that, or this one does at SIGTERM. Without
    // either, this one names them before.
    if (!reporter && !host.canCarry() && state === 'open') host.nameBefore(ownTime.letGoAt)
  }

  // --- One task

  /** Timers cannot fire between tasks that never yield, so the time is looked at as well. */
  function mayStart(): boolean {
    return !isAborted && now() < time.abortAt
  }

  function run(task: DeferredTask): Promise<unknown> | undefined {
    return isForOutcome(task) ? start(task) : undefined
  }

  /** Or it is skipped. */
  function isForOutcome(task: DeferredTask): boolean {
    const { outcome } = runOptions.facts
    const { on } = task
    if (on === 'always' || on === outcome) return true
    host.log.debug(`${titleOf(task)} is not for the outcome ${outcome}`, undefined, about({ task: task.label }))
    tellOf(task, 'skipped')
    return false
  }

  function start(task: DeferredTask): Promise<unknown> | undefined {
    running.add(task) // first: it may end the process at once, and is to be named then
    time.sums.tasks++
    return runTask(task, runOptions, end)
  }

  function end(task: DeferredTask, failure: Failure | undefined): Promise<void> | undefined {
    // First: were the process killed after it had been forgotten and before this, it would be lost in silence.
    if (failure) host.log.error(`${titleOf(task)} failed:`, failure.error, about({ task: task.label }))
    running.delete(task)
    tellUnfinished()
    time.onChange?.()
    if (!failure) return undefined
    time.sums.failed++
    return callOnTaskError(task, failure.error)
  }

  /** Never throws, and its promise never rejects. */
  function callOnTaskError(task: DeferredTask, error: unknown): Promise<void> | undefined {
    const { onTaskError } = options
    // It may defer again, and what it defers fails at once when time is up: that needs a bound.
    if (!onTaskError || (task.isLate && ++lateFailures > MAX_LATE_FAILURES)) return undefined
    const failed = (hookError: unknown) =>
      host.log.error(`onTaskError failed for ${titleOf(task)}:`, hookError, about({ task: task.label }))
    try {
      const given = { name: task.label, awsRequestId: requestId }
      const result: unknown = task.asyncContext.runInAsyncScope(onTaskError, undefined, error, given)
      if (!isThenable(result)) return undefined
      const told = outcomeOf(result).then(failure => failure && failed(failure.error))
      const left = time.letGoAt - now()
      return left > 0 ? withLimit(left, time.keepsAlive, told) : undefined
    } catch (hookError) {
      failed(hookError)
      return undefined
    }
  }

  function factsNow(): InvocationFacts {
    const outcome = hasThrown || shutdownError || request.error != null ? 'error' : 'success'
    return { awsRequestId: requestId, tenantId, outcome, carried: state === 'carried' }
  }

  function tellOf(task: DeferredTask, status: UnstartedTaskMessage['status']): void {
    tellUnstarted(() => ({ ...messageOf(task, factsNow()), status }))
  }

  /** For log lines. */
  function about(fields?: LogFields): LogFields {
    return { ...fields, ...fieldsOf(invocation) }
  }

  function titleOf({ label }: DeferredTask): string {
    return `task ${quote(label)} of request ${requestId}`
  }

  // --- All tasks

  /** Runs what waits, in this time. What could not start in it still waits afterwards. */
  async function drain(lent: Time): Promise<void> {
    time = lent
    isAborted = false
    setRunOptions()
    limitTime()
    try {
      await stack.drain()
    } finally {
      clearTimeout(timeLimit)
    }
  }

  function setRunOptions(): void {
    const facts = factsNow()
    runOptions = {
      facts,
      error: facts.outcome === 'error' ? (shutdownError ?? request.error) : undefined,
      taskTimeout: options.taskTimeout,
      keepsAlive: time.keepsAlive,
      getRemainingTimeInMillis: () => time.deadline - now(),
    }
  }

  function limitTime(): void {
    const { abortAt, letGoAt, keepsAlive } = time
    clearTimeout(timeLimit)
    // Without a deadline there is one all the same where nothing else keeps the process alive.
    if (!keepsAlive && abortAt === Number.POSITIVE_INFINITY) return
    timeLimit = timer(abortAt - now(), keepsAlive, abortAll)

    function abortAll() {
      isAborted = true
      const reason = tooLate(`the tasks of request ${requestId} to end`)
      timeLimit = abortTasks(running, reason, Math.min(ABORT_GRACE_MS, letGoAt - now()), keepsAlive)
    }
  }

  /**
   * Once for all that time was up for: they are carried over, the first time, or dropped. Which of the two is decided at once.
   *
   * @returns what else has to be waited for.
   */
  function giveUpUnstarted(): Promise<void> {
    setRunOptions()
    const tasks = stack.takeAll().filter(isForOutcome)
    const waiting = tasks.filter(task => !task.hasSettled)
    // The work of a settled promise is done: it counts as run, with its own outcome.
    const waits = tasks.filter(task => task.hasSettled).map(task => start(task))
    if (waiting.length > 0) {
      const { onDeadline = host.canCarry() && 'carry' } = options
      const isFirst = state === 'left' && isHeld && !time.isShutdown
      if (onDeadline === 'carry' && isFirst) carry(waiting)
      else waits.push(drop(waiting))
      tellUnfinished() // what has been named now is not to be named again
      time.onChange?.()
    }
    return all(waits)
  }

  function carry(tasks: readonly DeferredTask[]): void {
    const { carried } = host
    for (const task of tasks) stack.push(task) // dropOldest() puts them in their order
    carried.push(invocation)
    let tooMany = -options.maxCarried
    for (const other of carried) tooMany += other.size()
    for (const other of carried) tooMany -= other.dropOldest(tooMany)
    while (carried[0]?.size() === 0) carried.shift()
    const kept = stack.next(stack.size())
    logTasks('warn', ', and are carried over', kept)
    time.sums.carried += kept.length
    for (const task of kept) tellOf(task, 'carried')
    state = 'carried'
  }

  function logTasks(method: 'warn' | 'error', andWhat: string, tasks: readonly DeferredTask[]): void {
    const list = toList(tasks)
    host.log[method](
      `tasks of request ${requestId} could not start before ${whatEnded()}${andWhat}: ${list.text}`,
      undefined,
      about({ tasks: list.names }),
    )
  }

  function whatEnded(): string {
    return time.isShutdown ? 'the environment ended' : "the function's deadline"
  }

  function tooLate(what: string): PostInvokeError {
    return new PostInvokeError(
      time.isShutdown ? 'ERR_SHUTDOWN' : 'ERR_TASK_DEADLINE',
      `Expected ${what} before ${whatEnded()}.`,
    )
  }

  function drop(tasks: readonly DeferredTask[]): Promise<void> {
    time.sums.failed += tasks.length
    for (let index = 0; index < tasks.length; index += MAX_NAMES) {
      logTasks('error', '', tasks.slice(index, index + MAX_NAMES))
    }
    return all(
      tasks.map(task => {
        tellOf(task, 'dropped')
        return callOnTaskError(task, tooLate(`the task ${quote(task.label)} to start`))
      }),
    )
  }

  // --- The end

  async function toSettled(): Promise<void> {
    let endHold: (() => void) | undefined
    async function runTasks() {
      while (mayStart() && (stack.size() > 0 || hasGuests())) {
        endHold ??= hold()
        await runAll()
      }
    }
    try {
      state = 'left'
      isLetGo = false
      ownTime.keepsAlive = isHeldByGate
      const stream = host.streaming(requestId)
      if (stream) await inTime(stream)
      await runTasks()
      const handedOff = runHandedOff()
      if (handedOff) {
        endHold ??= hold()
        await handedOff
        await runTasks() // what was deferred meanwhile
      }
    } catch (error) {
      host.log.error(`a fault of middy-post-invoke ended request ${requestId}:`, error, about())
    }
    // In one go: what is deferred from here on is refused.
    let givenUp: Promise<void> | undefined
    if (stack.size() > 0) {
      endHold ??= hold()
      givenUp = giveUpUnstarted()
    }
    if (state === 'left') state = 'settled'
    if (givenUp) await givenUp
    endHold?.()
    isLetGo = true
    reporter?.settle()
    host.afterSettled()
  }

  function hasGuests(): boolean {
    return isHeld && host.carried.length > 0
  }

  async function runAll(): Promise<void> {
    // Lets the client ask for its next invocation first, where it is not us that it waits for.
    if (!isHeldByGate) await turn()
    tellUnfinished()
    await drain(time)
    while (hasGuests() && mayStart()) {
      guest = host.carried.shift() as Invocation
      tellUnfinished()
      await guest.drainWithin({ ...time, onChange: tellUnfinished })
      guest = undefined
    }
    // A rejection that a task left unhandled ends the process in this turn, while we still hold.
    await turn()
  }

  function runHandedOff(): Promise<void> | undefined {
    const work = host.handedOff(Date.now() + time.abortAt - now(), invocation)
    return work && inTime(work)
  }

  function inTime(work: Promise<void>): Promise<void> {
    return withLimit(time.letGoAt - now(), time.keepsAlive, work)
  }

  /** @returns what ends it; `undefined` where nothing holds. */
  function hold(): (() => void) | undefined {
    if (!isHeld) return undefined
    reporter?.hold(deadline - now())
    const start = now()
    const traced = trace(
      'hold',
      (): HoldMessage => ({ awsRequestId: requestId, tenantId, outcome: factsNow().outcome }),
    )
    traced?.run(() => {})
    return () => traced?.end({ ...time.sums, milliseconds: now() - start })
  }

  function leave(guessed = false): Promise<void> {
    isGuessed = guessed
    leaving ??= toSettled()
    return leaving
  }

  // --- What would be lost

  function unfinished(): TaskList {
    const waiting = stack.next(MAX_NAMES)
    return toList(running.size > 0 ? [...running, ...waiting] : waiting, running.size + stack.size())
  }

  /** Whether a line names only some of them: then they are not told of one by one. */
  function hasMany(): boolean {
    return running.size + stack.size() > MAX_NAMES
  }

  function tellUnfinished(evenOfMany = false): void {
    if (!reporter || isLetGo || (!evenOfMany && hasMany())) return
    let { names, text } = unfinished()
    if (guest) {
      const others = guest.unfinished()
      names = names.concat(others.names)
      if (others.text) text += `${text && ', and '}of request ${guest.requestId}: ${others.text}`
    }
    if (text === lastTold) return
    lastTold = text
    reporter.wouldLose(names, text)
  }
}

/** Without a tenant there is no field for it. */
const fieldsOf = ({ requestId, tenantId }: Pick<Invocation, 'requestId' | 'tenantId'>): LogFields =>
  tenantId === undefined ? { requestId } : { requestId, tenantId }

/** In one pass: with each `defer()` it is made anew, before the answer. */
function toList(tasks: readonly DeferredTask[], count = tasks.length): TaskList {
  const names: string[] = []
  let text = ''
  for (const { label } of tasks) {
    if (names.push(label) > 1) text += ', '
    text += quote(label)
    if (names.length === MAX_NAMES) break
  }
  if (count > names.length) text += ` and ${count - names.length} more`
  return { names, text }
}

/** @returns whether there were any. */
export function logUnfinished(write: Log['error'], what: string, invocation: Invocation): boolean {
  const tasks = invocation.unfinished()
  if (tasks.names.length === 0) return false
  write(`${what} in the middle of request ${invocation.requestId}; unfinished: ${tasks.text}`, undefined, {
    ...fieldsOf(invocation),
    tasks: tasks.names,
  })
  return true
}
