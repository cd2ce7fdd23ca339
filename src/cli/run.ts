// One run of a handler in the sandbox, summed up: what `--json` prints, and what the pictures are drawn from.
import type { InvocationReport } from '../sandbox/index.ts'
import type { End, Moment, TaskFacts } from './moments.ts'

/** All times are milliseconds: of an invocation since INVOKE, of the init and the shutdown since their start. */
export type Run = {
  /** The versions of this package that the handler uses. */
  readonly versions: readonly string[]
  /** What held the environment: `layer`, `gate`, `internal` or `none`. Missing when the package did not say. */
  readonly companion?: string
  readonly init: { readonly readyAt?: number }
  readonly invocations: readonly InvocationRun[]
  readonly shutdown: ShutdownRun
}

export type InvocationRun = {
  readonly requestId: string
  readonly status: InvocationReport['status']
  readonly kind: InvocationReport['kind']
  readonly errorType?: string
  readonly payload: string
  readonly streamed: boolean
  readonly firstByteAt?: number
  readonly answeredAt: number
  /** In the order in which they began, also those of earlier requests that ran in this one's time. */
  readonly tasks: readonly TaskRun[]
  /** What was not started when it was its turn: `carried`, `dropped` or `skipped`. */
  readonly unstarted: readonly (TaskFacts & { readonly status: string })[]
  readonly releasedAt: number
}

/** Without `endedAt` and `status` it had not ended when its process did. */
export type TaskRun = TaskFacts & { readonly startedAt: number; readonly endedAt?: number } & Partial<End>

export type ShutdownRun = {
  readonly tasks: readonly TaskRun[]
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
  return {
    versions: moments.find(moment => moment.type === 'loaded')?.versions ?? [],
    ...(companion === undefined ? {} : { companion }),
    init: initEnded === undefined ? {} : { readyAt: initEnded - initStarted },
    invocations: reports.map(report => {
      const index = invokes.findIndex(({ requestId }) => requestId === report.requestId)
      const from = invokes[index]?.at ?? Number.POSITIVE_INFINITY // none where an Init failed before it
      return toInvocation(report, between(moments, from, invokes[index + 1]?.at ?? shutdownStarted), from)
    }),
    shutdown: toShutdown(between(moments, shutdownStarted, Number.POSITIVE_INFINITY), shutdownStarted),
  }
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
    payload,
    streamed,
    ...(firstByteAt === undefined ? {} : { firstByteAt }),
    answeredAt: at,
    tasks: tasksOf(moments, from),
    unstarted: moments
      .filter(moment => moment.type === 'task-unstarted')
      .map(({ task, status }) => ({ ...task, status })),
    releasedAt,
  }
}

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
export const failuresOf = ({ invocations, shutdown }: Run): string[] => [
  ...invocations.flatMap((invocation, index) => {
    const { status, errorType, tasks, unstarted } = invocation
    const where = invocations.length > 1 ? `invocation ${index + 1}: ` : ''
    return [
      ...(status === 'success' ? [] : [`${where}${STATUS[status]}${errorType ? ` (${errorType})` : ''}`]),
      ...tasks.flatMap(task => taskFailure(task, where)),
      ...unstarted
        .filter(({ status }) => status === 'dropped')
        .map(({ name }) => `${where}task "${name}" was never started: time was up`),
    ]
  }),
  ...shutdown.tasks.flatMap(task => taskFailure(task, 'shutdown: ')),
  ...shutdown.hooks
    .filter(({ status }) => status !== 'completed')
    .map(({ name, error }) => `shutdown: hook "${name}" ${error ? `failed: ${error}` : 'did not end'}`),
]

const STATUS = {
  success: 'it succeeded',
  error: 'the handler failed',
  timeout: 'the function timed out',
  crash: "the function's process, or an extension, ended",
} as const

const taskFailure = ({ name, status, error }: TaskRun, where: string): string[] => {
  if (status === 'completed') return []
  return [`${where}task "${name}" ${status === undefined ? 'did not end' : `${status}${error ? `: ${error}` : ''}`}`]
}
