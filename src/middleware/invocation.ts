// One invocation: the tasks deferred in it, and what becomes of each once the response has left.
//
//   open ── the response has left ──▶ left ── its tasks have ended ──▶ settled
//                                      └─ some could not start in time ─▶ carried ── a later drain ──▶ settled
//
// - What becomes of a task: ended(), skip() and couldNotStart() log it, count it and tell of it.
// - When tasks run: drain(), in a `time` that is lent: before the answer, after it, in a later invocation or at shutdown.
// - What follows on the response: toSettled().
// - When they stop: `Time`, mayStart() and abortAll().
// - What would be lost: `tasks`, of which tellUnfinished() keeps the companion's process informed.
import { PostInvokeError, quote } from '../errors.ts'
import type { Log, LogFields, LogMethod } from '../log.ts'
import { type HoldMessage, tellUnstarted, trace, type UnstartedTaskMessage } from './channels.ts'
import type { Reporter } from './companion-process.ts'
import { createTask, type Defer, type DeferredTask, type Ending } from './defer-input.ts'
import { ABORT_GRACE_MS, abortTasks, messageOf, type RunOptions, runTask } from './deferred-task.ts'
import { createTaskStack, type Order } from './task-stack.ts'
import { all, clearTimeout, now, timer, turn, withLimit } from './waits.ts'

export type InvocationOptions = {
  order: Order
  concurrency: number
  taskTimeout: number | undefined
  deadlineMargin: number
  onTaskError: ((error: unknown, task: { name: string; awsRequestId: string }) => unknown) | undefined
  onDeadline: 'carry' | 'drop' | undefined
  maxCarried: number
}

/** What Lambda tells of an invocation. Of a durable execution it stands one level down in the context. */
export type LambdaFacts = {
  readonly awsRequestId?: string
  /** Where the function isolates tenants. */
  readonly tenantId?: string | undefined
  readonly getRemainingTimeInMillis?: () => number
}

/** How the environment is held for the tasks of an invocation. */
export type Hold = {
  /** Whether tasks can run after the response: the environment is held for them, or is never frozen. */
  readonly isHeld: boolean
  /** Whether the gate holds it: with no `next` of the client pending, nothing but a timer keeps the process alive. */
  readonly isHeldByGate: boolean
  /** Reports to the companion's process, where there is one. */
  readonly reporter: Reporter | undefined
}

/** What there is once in a process. */
export type InvocationHost = {
  readonly log: Log
  /** The invocations that have not settled. */
  readonly unsettled: Set<Invocation>
  /** An invocation has its first task, or hands work off. */
  onDefer(invocation: Invocation): void
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
  readonly carriedOver: Invocation[]
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
  /** Whether a timer has to keep the process alive. Before the answer and at shutdown it has. */
  keepsAlive: boolean
  /** Whether the environment ends, and no invocation lends it. */
  readonly isShutdown: boolean
  /** What became of the tasks, for those who watch. */
  readonly sums: { tasks: number; failed: number; carried: number }
  /** A task has ended, or is given up. */
  readonly onChange: (() => void) | undefined
}

export type Invocation = ReturnType<typeof createInvocation>

// The states of an invocation: see above. Numbers, for a string of each would stand in every bundle.
const OPEN = 0
const LEFT = 1
const CARRIED = 2
const SETTLED = 3

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

/** How tasks are logged that could not start in time, and how many names a line has. */
const unstarted = {
  carried: ['warn', ', and are carried over', Infinity],
  dropped: ['error', '', MAX_NAMES],
} as const

/**
 * @param request - Middy's, or the like of it: it leaves in `error` what was thrown.
 */
export function createInvocation(
  request: { readonly error?: unknown },
  context: LambdaFacts,
  { isHeld, isHeldByGate, reporter }: Hold,
  options: InvocationOptions,
  host: InvocationHost,
) {
  const { awsRequestId: requestId = '', tenantId } = context
  const deadline = now() + remainingTimeOf(context)
  /** Those that have not ended, the oldest first. */
  const tasks = new Set<DeferredTask>()
  const stack = createTaskStack(options, mayStart, run)
  /** That in which tasks run: at first our own. */
  let time = newTime(deadline, deadline - options.deadlineMargin, deadline - RELEASE_MARGIN_MS, tellUnfinished)
  /** What tasks are told of the invocation. Made anew as a hold and as a drain begins. */
  let runOptions: RunOptions
  let state = OPEN
  let openRequests = 1 // nested handlers count
  let hasThrown = false
  let isGuessed = false
  let leaving: Promise<void> | undefined
  let deferred = 0
  let lateFailures = 0
  /** Whether that is over, by the timer or because all are given up. */
  let isTimeUp = false
  let timeLimit: NodeJS.Timeout | undefined
  /** Whose carried tasks run in our time. */
  let guest: Invocation | undefined
  /** None once it was told that all is done: from then on its file is the next invocation's, even for our carried tasks. */
  let teller = reporter
  let lastTold = ''

  const invocation = {
    context,
    requestId,
    tenantId,
    isHeld,
    defer: defer as Defer,
    /** Whether its response has not left. */
    isOpen: () => state === OPEN,
    /** Whether hooks of its requests are still to run: further handlers can join it. */
    isInHandler: () => state === OPEN && openRequests > 0,
    isSettled: () => state === SETTLED,
    remainingTime,
    /** A handler called inside of the handler opens it once more. */
    open(): void {
      openRequests++
    },
    /** The hooks of a request have ended. @returns whether those of all have. */
    close(): boolean {
      if (--openRequests > 0) return false
      tellUnfinished(true)
      return true
    },
    /** Marks the outcome as an error. `request.error` alone does not do: `undefined` can be thrown. */
    fail(): void {
      hasThrown = true
    },
    /** For where nothing holds the environment: what is deferred by now runs while the answer waits. */
    drainBeforeAnswer(): Promise<void> | undefined {
      if (openRequests > 1) return undefined // an inner handler's: the outer one is not done
      return stack.size() > 0 ? drain().then(runHandedOff) : runHandedOff()
    },
    leave,
    /** Runs tasks in the time of another: those that wait from a deadline before, or all, at shutdown. */
    async drainWithin(lent: Time): Promise<void> {
      time = lent
      if (lent.isShutdown && state === OPEN) request = { error: tooLate(`request ${requestId} to end`) }
      await drain()
      const givenUp = giveUpUnstarted()
      if (state === CARRIED) state = SETTLED
      await givenUp
    },
    /** Drops the oldest of its waiting tasks, so that no more than `room` are left. @returns how many are. */
    keepYoungest(room: number): number {
      let tooMany = stack.size() - room
      const isTooOld = () => tooMany-- > 0
      couldNotStart('dropped', stack.takeOut(isTooOld))
      if (stack.size() === 0) state = SETTLED
      return stack.size()
    },
    unfinished,
    tellUnfinished,
  }
  return invocation

  function defer(given: unknown, taskOptions?: unknown): void {
    const task = createTask(given, taskOptions, deferred + 1, !mayStart(), options.taskTimeout)
    if (state === SETTLED && !isGuessed) {
      throw new PostInvokeError(
        'ERR_NO_INVOCATION',
        `Expected defer() before request ${requestId} settled, got a call after.`,
      )
    }
    if (deferred++ === 0) host.onDefer(invocation)
    tasks.add(task)
    stack.push(task)
    tellUnfinished() // now: a process that is killed tells nothing any more
    if (state === SETTLED) {
      host.unsettled.add(invocation)
      leaving = toSettled()
    }
  }

  // --- What becomes of a task

  function run(task: DeferredTask): Promise<void> | undefined {
    if (skip(task)) return undefined
    time.sums.tasks++
    return runTask(task, runOptions, ended)
  }

  /** Run to its end, or abandoned. */
  function ended(task: DeferredTask, { status, error }: Ending): Promise<void> | undefined {
    const hasFailed = status !== 'completed'
    // First: were the process killed after it had been forgotten and before this, it would be lost in silence.
    if (hasFailed) logTask('error', '', task, ' failed:', error)
    tasks.delete(task)
    time.onChange?.()
    return hasFailed ? failed(task, error) : undefined
  }

  /** Where its `on` asks for the other outcome. @returns whether it does. */
  function skip(task: DeferredTask): boolean {
    const { outcome } = runOptions.facts
    const { on } = task
    if (on === 'always' || on === outcome) return false
    tasks.delete(task)
    logTask('debug', '', task, ` is not for the outcome ${outcome}`)
    tellOf(task, 'skipped')
    return true
  }

  /** Time was up. @returns what `onTaskError` still takes. */
  function couldNotStart(status: keyof typeof unstarted, given: readonly DeferredTask[]): Promise<void> {
    const [method, andWhat, inLine] = unstarted[status]
    for (let from = 0; from < given.length; from += inLine) {
      const { names, text } = toList(given.slice(from, from + inLine))
      log(method, `tasks of request ${requestId} could not start before ${whatEnded()}${andWhat}: ${text}`, {
        tasks: names,
      })
    }
    return all(
      given.map(task => {
        tellOf(task, status)
        if (status === 'dropped') {
          tasks.delete(task)
          return failed(task, tooLate(`the task ${quote(task.label)} to start`))
        }
        time.sums.carried++
        return undefined
      }),
    )
  }

  function failed(task: DeferredTask, error: unknown): Promise<void> | undefined {
    time.sums.failed++
    if (!options.onTaskError) return undefined
    // It may defer again, and what it defers fails at once when time is up: that needs a bound.
    if (task.isLate && ++lateFailures > MAX_LATE_FAILURES) return undefined
    return inTime(callOnTaskError(task, error))
  }

  async function callOnTaskError(task: DeferredTask, error: unknown): Promise<void> {
    try {
      const given = { name: task.label, awsRequestId: requestId }
      await task.asyncContext.runInAsyncScope(options.onTaskError as () => unknown, undefined, error, given)
    } catch (hookError) {
      logTask('error', 'onTaskError failed for ', task, ':', hookError)
    }
  }

  function tellOf(task: DeferredTask, status: UnstartedTaskMessage['status']): void {
    tellUnstarted(() => ({ ...messageOf(task, runOptions), status }))
  }

  function logTask(method: LogMethod, before: string, { label }: DeferredTask, after: string, error?: unknown): void {
    log(method, `${before}task ${quote(label)} of request ${requestId}${after}`, { task: label }, error)
  }

  function log(method: LogMethod, text: string, fields?: LogFields, error?: unknown): void {
    host.log[method](text, error, { ...fields, ...fieldsOf(invocation) })
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

  // --- All tasks, in the time that is lent

  /** Timers cannot fire between tasks that never yield, so the time is looked at as well. */
  function mayStart(): boolean {
    return !isTimeUp && now() < time.abortAt
  }

  /** Milliseconds until the function's deadline, or that of the shutdown; `Infinity` where there is none. */
  function remainingTime(): number {
    return time.deadline - now()
  }

  /** Runs what waits. What could not start in time still waits afterwards. */
  async function drain(): Promise<void> {
    setRunOptions()
    isTimeUp = false
    const { abortAt, keepsAlive } = time
    clearTimeout(timeLimit)
    // Without a deadline there is one all the same where nothing else keeps the process alive.
    if (keepsAlive || abortAt < Infinity) timeLimit = timer(abortAt - now(), keepsAlive, abortAll)
    await stack.drain()
    clearTimeout(timeLimit)
  }

  function abortAll(): void {
    isTimeUp = true
    const reason = tooLate(`the tasks of request ${requestId} to end`)
    timeLimit = abortTasks(tasks, reason, Math.min(ABORT_GRACE_MS, time.letGoAt - now()), time.keepsAlive)
  }

  function setRunOptions(): void {
    const outcome = hasThrown || request.error != null ? 'error' : 'success'
    runOptions = {
      facts: { awsRequestId: requestId, tenantId, outcome, carried: state === CARRIED },
      error: outcome === 'error' ? request.error : undefined,
      keepsAlive: time.keepsAlive,
      remainingTime,
    }
  }

  /**
   * Once for all that time was up for: they are carried over, the first time, or dropped. Which of the two is decided at once.
   *
   * @returns what else has to be waited for.
   */
  function giveUpUnstarted(): Promise<void> {
    const { onDeadline = host.canCarry() && 'carry' } = options
    const mayCarry = onDeadline === 'carry' && state === LEFT && isHeld && !time.isShutdown
    const waits: unknown[] = []
    const wasUp = isTimeUp
    isTimeUp = true // onTaskError may defer: that is too late, and is given up as well
    while (stack.size() > 0) {
      stack.takeOut(skip)
      // The work of a settled promise is done: it counts as run, with its own outcome.
      waits.push(...stack.takeOut(({ hasSettled }) => hasSettled).map(run))
      if (mayCarry) {
        carry()
        break
      }
      waits.push(couldNotStart('dropped', stack.takeOut(isAny)))
    }
    isTimeUp = wasUp
    time.onChange?.() // what has been named now is not to be named again
    return all(waits)
  }

  function carry(): void {
    const { carriedOver } = host
    if (stack.size() === 0) return
    carriedOver.push(invocation)
    carriedOver.reduceRight((room, other) => room - other.keepYoungest(room), options.maxCarried)
    while (carriedOver[0]?.isSettled()) carriedOver.shift()
    couldNotStart('carried', stack.inOrder([...tasks].filter(task => !task.hasSettled)))
    state = CARRIED
    setRunOptions()
  }

  // --- The end

  /**
   * The response has left. Resolves, and never rejects, when the invocation has settled.
   *
   * @param guessed - Whether hooks may still be running. A later `defer()` then runs its task instead of throwing.
   */
  function leave(guessed = false): Promise<void> {
    isGuessed = guessed
    leaving ??= toSettled()
    return leaving
  }

  async function toSettled(): Promise<void> {
    let endHold: (() => void) | undefined
    state = LEFT
    teller = reporter
    time.keepsAlive = isHeldByGate || time.isShutdown
    try {
      const stream = host.streaming(requestId)
      await (stream && inTime(stream))
      // Tasks once more: some may have been deferred meanwhile.
      for (const begin of [runTasks, runHandedOff, runTasks]) {
        const work = begin()
        if (!work) continue
        endHold ??= hold()
        await work
      }
    } catch (error) {
      log('error', `a fault of middy-post-invoke ended request ${requestId}:`, undefined, error)
    }
    // In one go: what is deferred from here on is refused.
    let givenUp: Promise<void> | undefined
    if (stack.size() > 0) {
      endHold ??= hold()
      givenUp = giveUpUnstarted()
    }
    if (state === LEFT) state = SETTLED
    if (givenUp) await givenUp
    endHold?.()
    teller = undefined
    reporter?.settle()
    host.afterSettled()
  }

  /** @returns `undefined` where there is nothing to run, or no time for it. */
  function runTasks(): Promise<void> | undefined {
    return mayRun() ? runAll() : undefined
  }

  function mayRun(): boolean {
    return (stack.size() > 0 || (isHeld && host.carriedOver.length > 0)) && mayStart()
  }

  async function runAll(): Promise<void> {
    do {
      // Lets the client ask for its next invocation first, where it is not us that it waits for.
      if (!isHeldByGate) await turn()
      tellUnfinished()
      await drain()
      if (isHeld && mayStart()) guest = host.carriedOver.shift()
      tellUnfinished()
      await guest?.drainWithin({ ...time })
      guest = undefined
      // A rejection that a task left unhandled ends the process in this turn, while we still hold.
      await turn()
    } while (mayRun())
  }

  function runHandedOff(): Promise<void> | undefined {
    const handedOff = host.handedOff(Date.now() + time.abortAt - now(), invocation)
    return inTime(handedOff)
  }

  /** Waits no longer than until the companions let go. */
  function inTime(work: Promise<void> | undefined): Promise<void> | undefined {
    const limit = time.letGoAt - now()
    return work && limit > 0 ? withLimit(limit, time.keepsAlive, work) : undefined
  }

  /** @returns what ends it; `undefined` where nothing holds. */
  function hold(): (() => void) | undefined {
    setRunOptions()
    if (!isHeld) return undefined
    reporter?.hold(deadline - now())
    const start = now()
    const { outcome } = runOptions.facts
    const traced = trace('hold', (): HoldMessage => ({ awsRequestId: requestId, tenantId, outcome }))
    traced?.run(() => {})
    return () => traced?.end({ ...time.sums, milliseconds: now() - start })
  }

  // --- What would be lost

  /** What would be lost if the process ended now. */
  function unfinished(): TaskList {
    return toList(stack.inOrder([...tasks]))
  }

  /**
   * Keeps up to date what the companion's process would name.
   *
   * @param ofMany - For more tasks than a line names: those are told once, as the hooks end, and fewer at each change.
   */
  function tellUnfinished(ofMany = false): void {
    const areMany = tasks.size > MAX_NAMES
    if (!teller || areMany !== ofMany) return
    let { names, text } = unfinished()
    if (guest) {
      const others = guest.unfinished()
      names = names.concat(others.names)
      if (others.text) text += `${text && ', and '}of request ${guest.requestId}: ${others.text}`
    }
    if (text === lastTold) return
    lastTold = text
    teller.wouldLose(names, text)
  }
}

/** All three on the clock of `now()`; see {@link Time}. */
export function newTime(
  deadline: number,
  abortAt: number,
  letGoAt: number,
  onChange: Time['onChange'],
  isShutdown = false,
): Time {
  const sums = { tasks: 0, failed: 0, carried: 0 }
  return { abortAt, letGoAt, deadline, keepsAlive: true, isShutdown, sums, onChange }
}

const isAny = () => true

/** @returns `Infinity` where there is none, or none to be had. */
function remainingTimeOf(context: LambdaFacts): number {
  try {
    const remaining = context.getRemainingTimeInMillis?.()
    if (Number.isFinite(remaining)) return remaining as number
  } catch {}
  return Infinity
}

/** Without a tenant there is no field for it. */
const fieldsOf = ({ requestId, tenantId }: Pick<Invocation, 'requestId' | 'tenantId'>): LogFields =>
  tenantId === undefined ? { requestId } : { requestId, tenantId }

/** In one pass: with each `defer()` it is made anew, before the answer. */
function toList(tasks: readonly DeferredTask[]): TaskList {
  const names: string[] = []
  let text = ''
  for (const { label } of tasks) {
    if (names.length === MAX_NAMES) {
      text += ` and ${tasks.length - MAX_NAMES} more`
      break
    }
    text += (text && ', ') + quote(label)
    names.push(label)
  }
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
