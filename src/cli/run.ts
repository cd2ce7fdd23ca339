// One run of a handler in the sandbox, summed up: what `--json` prints, and what the pictures are drawn from.
import type { InvocationReport } from '../sandbox/index.ts'
import type { Finding } from './log-lines.ts'
import { type End, type Moment, type TaskFacts, taskTitle } from './moments.ts'

/** All times are milliseconds: of an invocation since INVOKE, of the init and the shutdown since their start. */
export type Run = {
  /** The versions of this package that the handler uses. */
  readonly versions: readonly string[]
  /** What held the environment: `layer`, `gate`, `internal` or `none`. Missing when the package did not say. */
  readonly companion?: string
  /** Whether postInvoke() or withPostInvoke() was called only inside an invocation. */
  readonly calledLate?: true
  readonly init: {
    readonly readyAt?: number
    /** Why it failed, and what to do where that is known. */
    readonly error?: { readonly type: string; readonly message: string; readonly hint?: string }
  }
  readonly invocations: readonly InvocationRun[]
  readonly shutdown: ShutdownRun
}

export type InvocationRun = {
  readonly requestId: string
  readonly status: InvocationReport['status']
  readonly kind: InvocationReport['kind']
  readonly errorType?: string
  readonly errorMessage?: string
  readonly payload: string
  readonly streamed: boolean
  readonly firstByteAt?: number
  readonly answeredAt: number
  /** In the order in which they began, also those of earlier requests that ran in this one's time. */
  readonly tasks: readonly TaskRun[]
  /** What was not started: `carried`, `dropped`, `skipped`, or `lost` with its process. */
  readonly unstarted: readonly UnstartedTask[]
  readonly handedOff: readonly HandedOffRun[]
  /** Other failures that were logged in this time. */
  readonly faults: readonly Fault[]
  readonly releasedAt: number
}

/** Without `index` only its name is known. */
export type UnstartedTask = Omit<TaskFacts, 'index'> & {
  readonly index?: number
  readonly status: string
  readonly at: number
}

/** A piece of handed-off work, of this request or an earlier one. */
export type HandedOffRun = Omit<Extract<Finding, { type: 'handed-off' }>, 'type'> & { readonly at: number }

export type Fault = { readonly text: string; readonly at: number }

/** Without `endedAt` and `status` it had not ended when its process did. */
export type TaskRun = TaskFacts & { readonly startedAt: number; readonly endedAt?: number } & Partial<End>

export type ShutdownRun = {
  readonly tasks: readonly TaskRun[]
  readonly handedOff: readonly HandedOffRun[]
  readonly faults: readonly Fault[]
  /** The names of hooks and tasks that there was no time for. */
  readonly notRun: readonly string[]
  readonly hooks: readonly ({
    readonly name: string
    readonly startedAt: number
    readonly endedAt?: number
  } & Partial<End>)[]
  readonly endedAt?: number
}

export const summarize = (moments: readonly Moment[], reports: readonly InvocationReport[]): Run => {
  const companion = moments.find(moment => moment.type === 'companion')?.kind
  const invokes = moments.filter(moment => moment.type === 'invoke')
  const initStarted = moments.find(moment => moment.type === 'init-started')?.at ?? 0
  const initEnded = moments.find(moment => moment.type === 'init-ended')?.at
  const shutdownStarted = moments.findLast(moment => moment.type === 'shutdown-started')?.at ?? Number.POSITIVE_INFINITY
  const loaded = moments.filter(moment => moment.type === 'loaded')
  const invocations = reports.map(report => {
    const index = invokes.findIndex(({ requestId }) => requestId === report.requestId)
    const from = invokes[index]?.at ?? Number.POSITIVE_INFINITY // none where an Init failed before it
    return toInvocation(report, between(moments, from, invokes[index + 1]?.at ?? shutdownStarted), from)
  })
  const shutdown = toShutdown(between(moments, shutdownStarted, Number.POSITIVE_INFINITY), shutdownStarted)
  return {
    versions: loaded.at(-1)?.versions ?? [],
    ...(companion === undefined ? {} : { companion }),
    ...(loaded.at(-1)?.isLate ? { calledLate: true } : {}),
    init: initEnded === undefined ? {} : { readyAt: initEnded - initStarted },
    invocations: withLost(invocations, shutdown, moments),
    shutdown,
  }
}

/**
 * Adds the tasks that were lost before they could start: those that the log names, and those of which it only shows that
 * they must have been there, because a task with a higher number was.
 */
const withLost = (
  invocations: readonly InvocationRun[],
  shutdown: ShutdownRun,
  moments: readonly Moment[],
): readonly InvocationRun[] => {
  const started = [...invocations.flatMap(({ tasks }) => tasks), ...shutdown.tasks]
  return invocations.map(invocation => {
    const { requestId, unstarted, tasks, status, releasedAt } = invocation
    const seen = [...started.filter(task => task.requestId === requestId), ...unstarted]
    const lost: string[] = []
    // One loss may be told by more than one process: the function's own, and the companion's.
    for (const line of moments) {
      if (line.type !== 'tasks-lost' || line.requestId !== requestId) continue
      const known = countsOf([...lost, ...unstarted.map(({ name }) => name), ...unendedAt(moments, requestId, line.at)])
      for (const name of line.names) {
        const left = known.get(name) ?? 0
        if (left > 0) known.set(name, left - 1)
        else lost.push(name)
      }
    }
    if (status !== 'success' || tasks.some(task => task.status === undefined)) {
      const indexes = new Set(seen.map(({ index }) => index))
      const highest = Math.max(0, ...seen.map(({ index = 0 }) => index))
      const missing = Array.from({ length: highest }, (_, index) => index + 1).filter(index => !indexes.has(index))
      for (const index of missing.slice(lost.length)) lost.push(`task ${index}`)
    }
    if (lost.length === 0) return invocation
    const toUnstarted = (name: string): UnstartedTask => {
      const index = /^task (\d+)$/.exec(name)?.[1]
      return {
        ...{ name, requestId, carried: false, status: 'lost', at: releasedAt },
        ...(index === undefined ? {} : { index: Number(index) }),
      }
    }
    return { ...invocation, unstarted: [...unstarted, ...lost.map(toUnstarted)] }
  })
}

/** The names of a request's tasks that are started at some time, but those that had ended by then. */
const unendedAt = (moments: readonly Moment[], requestId: string, at: number): string[] => {
  const isEnded = ({ index }: TaskFacts) =>
    moments.some(
      moment =>
        moment.type === 'task-ended' &&
        moment.at <= at &&
        moment.task.requestId === requestId &&
        moment.task.index === index,
    )
  return moments
    .filter(moment => moment.type === 'task-started')
    .filter(({ task }) => task.requestId === requestId && !isEnded(task))
    .map(({ task }) => task.name)
}

const countsOf = (names: readonly string[]): Map<string, number> => {
  const counts = new Map<string, number>()
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1)
  return counts
}

const between = (moments: readonly Moment[], from: number, to: number) =>
  moments.filter(({ at }) => at >= from && at < to)

const toInvocation = (report: InvocationReport, moments: readonly Moment[], from: number): InvocationRun => {
  const { requestId, status, kind, errorType, payload, streamed, firstByteAt, at, releasedAt } = report
  return {
    requestId,
    status,
    kind,
    ...(errorType === undefined ? {} : { errorType }),
    ...errorMessageOf(report),
    payload,
    streamed,
    ...(firstByteAt === undefined ? {} : { firstByteAt }),
    answeredAt: Math.min(at, ...leftAt(moments, requestId).map(left => left - from)),
    tasks: tasksOf(moments, from),
    unstarted: moments
      .filter(moment => moment.type === 'task-unstarted')
      .map(({ task, status, at }) => ({ ...task, status, at: at - from })),
    ...loggedIn(moments, from),
    releasedAt,
  }
}

/** When the function's process knew that its response had left, which is before its tasks begin. */
const leftAt = (moments: readonly Moment[], requestId: string): number[] =>
  moments.flatMap(moment => (moment.type === 'hold-started' && moment.requestId === requestId ? [moment.at] : []))

/** Of a failure that Lambda writes, the type says it all. */
const errorMessageOf = ({ status, kind, payload }: InvocationReport) => {
  if (status !== 'error' || kind !== 'error') return {}
  try {
    const { errorMessage } = JSON.parse(payload)
    return typeof errorMessage === 'string' && errorMessage !== '' ? { errorMessage } : {}
  } catch {
    return {}
  }
}

const loggedIn = (moments: readonly Moment[], from: number) => ({
  handedOff: moments
    .filter(moment => moment.type === 'handed-off')
    .map(({ type: _, at, ...facts }) => ({ ...facts, at: at - from })),
  faults: moments.filter(moment => moment.type === 'fault').map(({ text, at }) => ({ text, at: at - from })),
})

const tasksOf = (moments: readonly Moment[], from: number): TaskRun[] =>
  moments
    .filter(moment => moment.type === 'task-started')
    .map(({ task, at }) => {
      const ended = moments.find(
        moment =>
          moment.type === 'task-ended' && moment.task.index === task.index && moment.task.requestId === task.requestId,
      )
      return {
        ...task,
        startedAt: at - from,
        ...(ended?.type === 'task-ended' ? { endedAt: ended.at - from, ...ended.end } : {}),
      }
    })

const toShutdown = (moments: readonly Moment[], from: number): ShutdownRun => {
  const ended = moments.findLast(moment => moment.type === 'shutdown-ended')
  return {
    tasks: tasksOf(moments, from),
    ...loggedIn(moments, from),
    notRun: moments
      .filter(moment => moment.type === 'tasks-lost' && moment.requestId === undefined)
      .flatMap(moment => (moment.type === 'tasks-lost' ? moment.names : [])),
    hooks: moments
      .filter(moment => moment.type === 'hook-started')
      .map(({ name, at }) => {
        const end = moments.find(moment => moment.type === 'hook-ended' && moment.name === name && moment.at >= at)
        return {
          name,
          startedAt: at - from,
          ...(end?.type === 'hook-ended' ? { endedAt: end.at - from, ...end.end } : {}),
        }
      }),
    ...(ended ? { endedAt: ended.at - from } : {}),
  }
}

/** What a person has to know went wrong, in the order in which it did. Empty when all is well. */
export const failuresOf = ({ init, invocations, shutdown }: Run): string[] => {
  /** Whether it ran later, or was told of as dropped. */
  const isCarriedOn = ({ requestId, index }: UnstartedTask) =>
    [...invocations.flatMap(({ tasks, unstarted }) => [...tasks, ...unstarted]), ...shutdown.tasks].some(
      task => task.carried && task.requestId === requestId && task.index === index,
    )
  const waiting = stillWaiting([...invocations, shutdown])
  return [
    ...(init.error ? [`init failed: ${init.error.type}: ${init.error.message}`] : []),
    ...invocations.flatMap((invocation, index) => {
      const { tasks, unstarted, releasedAt } = invocation
      return inOrder(invocations.length > 1 ? `invocation ${index + 1}: ` : '', [
        ...statusFailure(invocation),
        ...tasks.flatMap(task => taskFailure(task, releasedAt)),
        ...unstarted.flatMap(task => {
          const text = WHY_UNSTARTED[task.status]
          return text === undefined || (task.status === 'carried' && isCarriedOn(task))
            ? []
            : [{ at: task.at, text: `${quotedTask(task)} ${text}` }]
        }),
        ...loggedFailures(invocation, waiting),
      ])
    }),
    ...inOrder('shutdown: ', [
      ...shutdown.tasks.flatMap(task => taskFailure(task, shutdown.endedAt ?? task.startedAt)),
      ...shutdown.hooks
        .filter(({ status }) => status !== 'completed')
        .map(({ name, error, startedAt, endedAt = startedAt }) => ({
          at: endedAt,
          text: `hook "${name}" ${error ? `failed: ${error}` : 'did not end'}`,
        })),
      ...shutdown.notRun.map(name => ({ at: shutdown.endedAt ?? 0, text: `"${name}" was not run: time was up` })),
      ...loggedFailures(shutdown, waiting),
    ]),
  ]
}

type Failure = { readonly at: number; readonly text: string }

const inOrder = (where: string, failures: readonly Failure[]): string[] =>
  failures.toSorted((one, other) => one.at - other.at).map(({ text }) => `${where}${text}`)

const statusFailure = ({ status, errorType, errorMessage, answeredAt, releasedAt }: InvocationRun): Failure[] => {
  if (status === 'success') return []
  const type = errorType ? ` (${errorType})` : ''
  const message = errorMessage ? `: ${errorMessage}` : ''
  return [{ at: status === 'error' ? answeredAt : releasedAt, text: `${STATUS[status]}${type}${message}` }]
}

const STATUS = {
  success: 'it succeeded',
  error: 'the handler failed',
  timeout: 'the function timed out',
  crash: "the function's process, or an extension, ended",
} as const

/** Without an entry it is no failure. */
const WHY_UNSTARTED: Readonly<Record<string, string>> = {
  dropped: 'was never started: time was up',
  lost: 'was never started: its process ended, or was frozen, before',
  carried: 'was carried over, and never ran',
}

const taskFailure = (task: TaskRun, end: number): Failure[] => {
  const { status, error, endedAt = end } = task
  if (status === 'completed') return []
  const text = status === undefined ? 'did not end' : `${status}${error ? `: ${error}` : ''}`
  return [{ at: endedAt, text: `${quotedTask(task)} ${text}` }]
}

const quotedTask = ({ name }: Pick<TaskFacts, 'name'>) => taskTitle(name, text => `"${text}"`)

/** What was not done in time, and not later either. */
const stillWaiting = (parts: readonly { readonly handedOff: readonly HandedOffRun[] }[]): ReadonlySet<HandedOffRun> => {
  const last = new Map<string, HandedOffRun>()
  for (const { handedOff } of parts) {
    for (const work of handedOff) last.set(JSON.stringify([work.requestId, work.name]), work)
  }
  return new Set([...last.values()].filter(({ status }) => status === 'waiting'))
}

const loggedFailures = (
  { handedOff, faults }: Pick<InvocationRun, 'handedOff' | 'faults'>,
  waiting: ReadonlySet<HandedOffRun>,
): Failure[] => [
  ...handedOff.flatMap(work => {
    const { name, status, error, at } = work
    if (status === 'done' || (status === 'waiting' && !waiting.has(work))) return []
    const text = status === 'failed' ? `failed${error ? `: ${error}` : ''}` : WHY_NOT_DONE[status]
    return [{ at, text: `handed-off work "${name}" ${text}` }]
  }),
  ...faults,
]

const WHY_NOT_DONE = {
  waiting: 'was not done: time was up',
  lost: 'was not done: the environment ended before',
} as const
