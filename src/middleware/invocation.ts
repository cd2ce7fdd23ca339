// One invocation: the tasks deferred in it, and what becomes of each once the response has left.
//
//   open ── the response has left ──▶ left ── its tasks have ended ──▶ settled
//     a count of the requests that are open      └─ some could not start in time ─▶ carried ── a later drain ──▶ settled
//
// Tasks run by drain(), in the time that it is lent: before the answer, after it, in a later invocation or at shutdown.
import { PostInvokeError } from '../errors.ts'
import type { Log, LogFields } from '../log.ts'
import { type HoldMessage, tellUnstarted, trace, type UnstartedTaskMessage } from './channels.ts'
import type { HeldInvocation } from './companion.ts'
import {
  ABORT_GRACE_MS,
  type AsyncContext,
  type Failure,
  type InvocationFacts,
  RunningTask,
  type RunOptions,
  type TaskEntry,
  taskMessage,
} from './running-task.ts'
import { type Defer, validateTask } from './task.ts'
import { createTaskStack, type Order } from './task-stack.ts'
import { all, clearTimeout, isThenable, now, resolvers, timer, turn, whenSettled, withLimit } from './waits.ts'

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
  /** Whether nothing but our promise keeps the process alive meanwhile, with no `next` of the client pending. */
  readonly isGated: boolean
  /** What has to be told, where a companion's process holds the environment. */
  companion(deadline: () => number): HeldInvocation | undefined
}

/** What there is once in a process. */
export type InvocationHost = {
  readonly log: Log
  /** The async context in which this was called, to run a function in. */
  asyncContext(): AsyncContext
  onDefer(): void
  /** The response, where it is streamed and not yet accepted. */
  streaming(requestId: string): Promise<void> | undefined
  /** Runs handed-off work until `deadline` (milliseconds since the epoch), where this process is the one that runs it. */
  handedOff(invocation: Invocation, deadline: number): Promise<void> | undefined
  /** Whether tasks that the deadline has kept from starting can still run at the end of the environment. */
  canCarry(): boolean
  /** The invocations with such tasks, the oldest first; and those whose run now, in the time of another. */
  readonly carried: Invocation[]
  readonly guests: Set<Invocation>
  onSettled(invocation: Invocation): void
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
  /** What a task's `signal` is aborted with. */
  reason(): PostInvokeError
  /** What became of the tasks, for those who watch. */
  readonly sums: { tasks: number; failed: number; carried: number }
  /** A task has ended. */
  onChange(): void
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
   * @param isGuessed - Whether the client has not told the end. A later `defer()` then runs its task instead of throwing.
   */
  leave(isGuessed?: boolean): Promise<void>
  /** Runs tasks in the time of another: those that wait from a deadline before, or all, at shutdown. */
  drainWithin(time: Time, isShutdown: boolean): Promise<void>
  /** Drops the oldest of its carried tasks. @returns how many were dropped. */
  dropOldest(count: number): number
  /** How many tasks wait. */
  size(): number
  /** What would be lost if the process ended now. */
  unfinished(): TaskList
  /** Keeps up to date what the companion's process would name. */
  tellUnfinished(): void
}

/** Tasks by name, at most {@link MAX_NAMES}, and how many more there are. */
export type TaskList = { readonly names: readonly string[]; readonly more: number }

/** The companions let go this long before the function's deadline: past it a good answer would become a timeout. */
const RELEASE_MARGIN_MS = 100

/** How many tasks a line of log names. */
const MAX_NAMES = 50

/** For log lines: `"audit", "analytics" and 3 more`. */
export const listTasks = ({ names, more }: TaskList): string =>
  names.map(name => JSON.stringify(name)).join(', ') + (more > 0 ? ` and ${more} more` : '')

const toList = (entries: readonly TaskEntry[], count = entries.length): TaskList => {
  const names = entries.slice(0, MAX_NAMES).map(({ label }) => label)
  return { names, more: count - names.length }
}

/**
 * @param request - Middy's, or the like of it: it leaves in `error` what was thrown.
 */
export const createInvocation = (
  request: { readonly error?: unknown },
  { requestId, tenantId, remainingTime, isHeld, isGated, companion: tell }: InvocationStart,
  options: InvocationOptions,
  host: InvocationHost,
): Invocation => {
  const { log } = host
  /** For log lines. */
  const about = fieldsOf({ requestId, tenantId })
  const deadline = now() + remainingTime
  let state: 'open' | 'left' | 'carried' | 'settled' = 'open'
  let openRequests = 1
  let hasThrown = false
  let isShuttingDown = false
  let shutdownError: PostInvokeError | undefined
  let deferred = 0
  let isGuessed = false
  let lateFailures = 0
  let leaving: Promise<void> | undefined
  /** Whose carried tasks run in our time. */
  let guest: Invocation | undefined

  const running = new Set<RunningTask>()
  /** What time was up for before it could start. */
  let unstarted: TaskEntry[] = []
  let aborted: PostInvokeError | undefined
  let timeLimit: NodeJS.Timeout | undefined
  let namesBeforeDeadline: NodeJS.Timeout | undefined

  const companion = tell(() => Date.now() + Math.min(deadline - now(), LONGEST_INVOCATION_MS))
  let lastTold: string | undefined

  const ownTime: Time = {
    abortAt: deadline - options.deadlineMargin,
    letGoAt: deadline - RELEASE_MARGIN_MS,
    deadline,
    keepsAlive: true, // before the answer
    reason: () =>
      new PostInvokeError(
        'ERR_TASK_DEADLINE',
        `Expected the tasks of request ${requestId} to end ${options.deadlineMargin} ms before the function's deadline.`,
      ),
    sums: { tasks: 0, failed: 0, carried: 0 },
    onChange() {},
  }
  let time = ownTime

  const outcome = () => (hasThrown || shutdownError || request.error != null ? 'error' : 'success')

  const facts = (): InvocationFacts => {
    const error = outcome() === 'error' ? (shutdownError ?? request.error) : undefined
    return { awsRequestId: requestId, tenantId, outcome: outcome(), error }
  }

  /** What is the same for all tasks that run in one time. */
  const commonOf = (): { facts: InvocationFacts; options: RunOptions } => ({
    facts: facts(),
    options: {
      taskTimeout: options.taskTimeout,
      keepsAlive: time.keepsAlive,
      carried: state === 'carried',
      getRemainingTimeInMillis: () => time.deadline - now(),
    },
  })
  /** As the last drain began. */
  let common: ReturnType<typeof commonOf>

  // --- What is deferred

  const defer = (task: unknown, taskOptions?: unknown): void => {
    const valid = validateTask(task, taskOptions)
    if (state === 'settled' && !isGuessed) {
      throw new PostInvokeError(
        'ERR_NO_INVOCATION',
        `Expected defer() to be called before request ${requestId} settled, got a call after.`,
      )
    }
    if (deferred++ === 0) expectTasks()
    stack.push({
      task: valid.task,
      on: valid.on,
      timeout: valid.timeout,
      promise: valid.promise,
      label: valid.name ?? `task ${deferred}`,
      index: deferred,
      asyncContext: host.asyncContext(),
      isLate: now() >= time.abortAt,
    })
    tellUnfinished() // now: a process that is killed tells nothing any more
    if (state === 'settled') {
      leaving = undefined
      void leave(true)
    }
  }

  const expectTasks = () => {
    host.onDefer()
    // Once the function has timed out, a companion's process is left to name them, or SIGTERM comes. Else nobody is.
    if (companion || host.canCarry() || !Number.isFinite(deadline) || state !== 'open') return
    namesBeforeDeadline = timer(time.letGoAt - now(), false, () => {
      if (state === 'open') logUnfinished(log, 'the function is about to time out', invocation)
    })
  }

  // --- One task

  const run = (entry: TaskEntry): Promise<unknown> | undefined => {
    if (entry.on !== 'always' && entry.on !== common.facts.outcome) {
      log.debug(
        `task ${JSON.stringify(entry.label)} of request ${requestId} is not for the outcome ${common.facts.outcome}`,
        { task: entry.label, ...about },
      )
      tellUnstartedTask(entry, 'skipped')
      return undefined
    }
    // Timers cannot fire between tasks that never yield, so the time is looked at as well.
    if (!aborted && now() < time.abortAt) return start(entry)
    unstarted.push(entry, ...stack.takeAll())
    return undefined
  }

  const start = (entry: TaskEntry): Promise<unknown> | undefined => {
    const task = new RunningTask(entry, common.facts, common.options)
    running.add(task) // first: it may end the process at once, and is to be named then
    time.sums.tasks++
    return task.run(failure => end(task, failure))
  }

  const end = (task: RunningTask, failure: Failure | undefined): Promise<void> | undefined => {
    running.delete(task)
    tellUnfinished()
    time.onChange()
    if (!failure) return undefined
    const { label } = task.entry
    time.sums.failed++
    log.error(`task ${JSON.stringify(label)} of request ${requestId} failed:`, failure.error, {
      task: label,
      ...about,
    })
    return callOnTaskError(task.entry, failure.error)
  }

  /** Never throws, and its promise never rejects. */
  const callOnTaskError = (entry: TaskEntry, error: unknown): Promise<void> | undefined => {
    // Of what is deferred when time is up no more than this: it could defer again and again.
    if (!options.onTaskError || (entry.isLate && ++lateFailures > MAX_NAMES)) return undefined
    const { label } = entry
    const failed = (hookError: unknown) =>
      log.error(`onTaskError failed for task ${JSON.stringify(label)} of request ${requestId}:`, hookError, {
        task: label,
        ...about,
      })
    try {
      const task = { name: label, awsRequestId: requestId }
      const result: unknown = entry.asyncContext.runInAsyncScope(options.onTaskError, undefined, error, task)
      if (!isThenable(result)) return undefined
      const { promise, resolve } = resolvers()
      whenSettled(result, resolve, hookError => {
        failed(hookError)
        resolve()
      })
      const left = time.letGoAt - now()
      return left > 0 ? withLimit(left, time.keepsAlive, promise) : undefined
    } catch (hookError) {
      failed(hookError)
      return undefined
    }
  }

  // --- All tasks

  const stack = createTaskStack<TaskEntry>({ order: options.order, concurrency: options.concurrency, run })

  /** Runs what waits, in this time. What could not start in it is in `unstarted` afterwards. */
  const drain = async (lent: Time): Promise<void> => {
    time = lent
    aborted = undefined
    common = commonOf()
    limitTime()
    try {
      await stack.drain()
    } finally {
      clearTimeout(timeLimit)
    }
  }

  const limitTime = () => {
    clearTimeout(timeLimit)
    // Without a deadline there is one all the same where nothing else keeps the process alive.
    if (!time.keepsAlive && time.abortAt === Number.POSITIVE_INFINITY) return
    timeLimit = timer(time.abortAt - now(), time.keepsAlive, () => {
      const reason = time.reason()
      aborted = reason
      for (const task of running) task.abort(reason)
      timeLimit = timer(Math.min(ABORT_GRACE_MS, time.letGoAt - now()), time.keepsAlive, () => {
        for (const task of running) task.abandon(reason)
      })
    })
  }

  /**
   * Once for all that time was up for: they are carried over, the first time, or dropped. Which of the two is decided at once.
   *
   * @returns what else has to be waited for.
   */
  const giveUpUnstarted = (): Promise<void> => {
    const entries = unstarted.concat(stack.takeAll())
    unstarted = []
    common = commonOf()
    const waiting = entries.filter(entry => !isDone(entry))
    // The work of a settled promise is done: it counts as run, with its own outcome.
    const waits = entries.filter(isDone).map(start)
    if (waiting.length > 0) {
      const { onDeadline = host.canCarry() ? 'carry' : 'drop' } = options
      if (onDeadline === 'carry' && state === 'left' && isHeld && !isShuttingDown) carry(waiting)
      else waits.push(drop(waiting))
      tellUnfinished() // what has been named now is not to be named again
    }
    return all(waits)
  }

  const carry = (unstartedEntries: readonly TaskEntry[]) => {
    const oldestFirst = unstartedEntries.toSorted((a, b) => a.index - b.index)
    const tooOld = oldestFirst.slice(0, Math.max(0, oldestFirst.length - options.maxCarried))
    if (tooOld.length > 0) void drop(tooOld)
    const lastDropped = tooOld.at(-1)?.index ?? 0
    const entries = unstartedEntries.filter(({ index }) => index > lastDropped)
    const list = toList(entries)
    log.warn(
      `tasks of request ${requestId} could not start before the function's deadline, and are carried over: ${listTasks(list)}`,
      undefined,
      { ...about, tasks: list.names },
    )
    time.sums.carried += entries.length
    for (const entry of entries) tellUnstartedTask(entry, 'carried')
    for (const entry of options.order === 'lifo' ? entries.toReversed() : entries) stack.push(entry)
    host.carried.push(invocation)
    let tooMany = -options.maxCarried
    for (const other of host.carried) tooMany += other.size()
    for (const other of host.carried) tooMany -= tooMany > 0 ? other.dropOldest(tooMany) : 0
    while (host.carried[0]?.size() === 0) host.carried.shift()
    state = 'carried'
  }

  const drop = (entries: readonly TaskEntry[]): Promise<void> => {
    time.sums.failed += entries.length
    for (let index = 0; index < entries.length; index += MAX_NAMES) {
      const list = toList(entries.slice(index, index + MAX_NAMES))
      log.error(
        `tasks of request ${requestId} could not start before the function's deadline: ${listTasks(list)}`,
        undefined,
        { ...about, tasks: list.names },
      )
    }
    return all(
      entries.map(entry => {
        tellUnstartedTask(entry, 'dropped')
        return callOnTaskError(
          entry,
          new PostInvokeError(
            'ERR_TASK_DEADLINE',
            `Expected the task ${JSON.stringify(entry.label)} to start before the function's deadline.`,
          ),
        )
      }),
    )
  }

  const tellUnstartedTask = (entry: TaskEntry, status: UnstartedTaskMessage['status']): void => {
    tellUnstarted(() => ({ ...taskMessage(entry, facts(), state === 'carried'), status }))
  }

  // --- The end

  const leave = (guessed = false): Promise<void> => {
    isGuessed = guessed
    leaving ??= toSettled()
    return leaving
  }

  const toSettled = async (): Promise<void> => {
    clearTimeout(namesBeforeDeadline)
    let endHold: (() => void) | undefined
    try {
      state = 'left'
      ownTime.keepsAlive = isGated
      const streaming = host.streaming(requestId)
      if (streaming) await inTime(streaming)
      const runTasks = async () => {
        while (hasWork()) {
          endHold ??= hold()
          await runAll()
        }
      }
      await runTasks()
      const handedOff = runHandedOff()
      if (handedOff) {
        endHold ??= hold()
        await handedOff
        await runTasks() // what was deferred meanwhile
      }
    } catch (error) {
      log.error(`a fault of middy-post-invoke ended request ${requestId}:`, error, about)
    }
    // In one go: what is deferred from here on is refused.
    if (stack.size() + unstarted.length > 0) endHold ??= hold()
    const givenUp = giveUpUnstarted()
    if (state === 'left') state = 'settled'
    await givenUp
    endHold?.()
    companion?.settle()
    host.onSettled(invocation)
  }

  const hasWork = () => now() < time.abortAt && (stack.size() > 0 || (isHeld && host.carried.length > 0))

  const runAll = async (): Promise<void> => {
    // Lets the client ask for its next invocation first, where it is not us that it waits for.
    if (!isGated) await turn()
    tellUnfinished()
    await drain(time)
    while (isHeld && host.carried.length > 0 && now() < time.abortAt) {
      guest = host.carried.shift() as Invocation
      host.guests.add(guest)
      tellUnfinished()
      await guest.drainWithin({ ...time, onChange: tellUnfinished }, false)
      host.guests.delete(guest)
      guest = undefined
    }
    // A rejection that a task left unhandled ends the process in this turn, while we still hold.
    await turn()
  }

  const runHandedOff = (): Promise<void> | undefined => {
    const work = host.handedOff(invocation, Date.now() + time.abortAt - now())
    return work && inTime(work)
  }

  const inTime = (work: Promise<void>) => withLimit(time.letGoAt - now(), time.keepsAlive, work)

  /** @returns what ends it; `undefined` where nothing holds. */
  const hold = (): (() => void) | undefined => {
    if (!isHeld) return undefined
    companion?.hold()
    const start = now()
    const message: HoldMessage = { awsRequestId: requestId, tenantId, outcome: outcome() }
    const traced = trace('hold', () => message)
    traced?.run(() => {})
    return () => traced?.end({ ...time.sums, milliseconds: now() - start })
  }

  const unfinished = (): TaskList => {
    const entries = stack.next(MAX_NAMES)
    if (unstarted.length > 0) entries.unshift(...unstarted)
    if (running.size > 0) entries.unshift(...[...running].map(({ entry }) => entry))
    return toList(entries, running.size + unstarted.length + stack.size())
  }

  /** Keeps up to date what the companion would name. Of very many tasks: as the hooks end, and when they are few again. */
  const tellUnfinished = (evenOfMany = false): void => {
    // What is carried over is named by the invocation in whose time it runs.
    if (!companion || state === 'settled' || state === 'carried') return
    if (!evenOfMany && running.size + stack.size() > MAX_NAMES) return
    const own = unfinished()
    const others = guest?.unfinished()
    let list = listTasks(own)
    if (guest && others && others.names.length > 0) {
      list += `${list && ', and '}of request ${guest.requestId}: ${listTasks(others)}`
    }
    if (list === (lastTold ?? '')) return
    lastTold = list
    companion.wouldLose([...own.names, ...(others?.names ?? [])], list)
  }

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
      openRequests--
      if (openRequests === 0) tellUnfinished(true)
      return openRequests === 0
    },
    fail() {
      hasThrown = true
    },
    drainBeforeAnswer() {
      if (openRequests > 1) return undefined // an inner handler's: the outer one is not done
      const drained = stack.size() > 0 ? drain(ownTime) : undefined
      return drained ? drained.then(runHandedOff) : runHandedOff()
    },
    leave,
    async drainWithin(lent, isShutdown) {
      isShuttingDown = isShutdown
      if (isShutdown && state === 'open') {
        shutdownError = new PostInvokeError(
          'ERR_SHUTDOWN',
          `Expected request ${requestId} to end before its environment.`,
        )
      }
      await drain(lent)
      await giveUpUnstarted()
      if (state === 'carried') state = 'settled'
    },
    dropOldest(count) {
      const entries = stack.takeAll().sort((a, b) => a.index - b.index)
      void drop(entries.slice(0, count))
      for (const entry of entries.slice(count)) stack.push(entry)
      if (stack.size() === 0) state = 'settled'
      return Math.min(count, entries.length)
    },
    size: stack.size,
    unfinished,
    tellUnfinished,
  }
  return invocation
}

/** No invocation lasts longer: https://docs.aws.amazon.com/lambda/latest/dg/configuration-timeout.html */
const LONGEST_INVOCATION_MS = 900_000

/** A tenant where there is one, or each line had an empty field. */
const fieldsOf = ({ requestId, tenantId }: Pick<Invocation, 'requestId' | 'tenantId'>): LogFields =>
  tenantId === undefined ? { requestId } : { requestId, tenantId }

export const logUnfinished = (log: Pick<Log, 'error'>, what: string, invocation: Invocation): void => {
  const { requestId } = invocation
  const tasks = invocation.unfinished()
  if (tasks.names.length === 0) return
  log.error(`${what} in the middle of request ${requestId}; unfinished: ${listTasks(tasks)}`, undefined, {
    ...fieldsOf(invocation),
    tasks: tasks.names,
  })
}

const isDone = ({ promise }: TaskEntry) => promise?.hasSettled === true
