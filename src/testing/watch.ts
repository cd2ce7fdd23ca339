// What becomes of tasks and hooks, as the package's diagnostics channels tell it.
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { HookMessage, ShutdownMessage, TaskMessage, UnstartedTaskMessage } from '../middleware/channels.ts'

/** What became of one task. */
export type TaskReport = {
  /** The `name` given to `defer()`, else the function's own name. */
  readonly name: string
  /**
   * `completed`, or `failed`: it threw or rejected. `abandoned`: it went on for more than 100 ms after its abort. Not
   * started: `skipped` for its `on`, `carried` over to what runs next, `dropped` because time was up.
   */
  readonly status: 'completed' | 'failed' | 'abandoned' | 'skipped' | 'carried' | 'dropped'
  /** What it threw, or why it was abandoned. */
  readonly error?: unknown
  /** How long it ran, in milliseconds; 0 where it did not. */
  readonly duration: number
  /** The request that deferred it: another one's, where the task had been carried over. */
  readonly awsRequestId: string
  /** How its request ended. */
  readonly outcome: 'success' | 'error'
}

/** What became of one shutdown hook. */
export type HookReport = {
  /** The `name` given to `onShutdown()`, else its own name. */
  readonly name: string
  /** `failed`: it threw, rejected or ran out of time. `not run`: the shutdown's time was over. */
  readonly status: 'completed' | 'failed' | 'not run'
  /** What it threw, or a `PostInvokeError` (`ERR_SHUTDOWN_TIMEOUT`). */
  readonly error?: unknown
  /** How long it ran, in milliseconds. */
  readonly duration: number
}

type Watch<Report> = { readonly reports: Report[]; stop(): void }

/** The tasks for which `isOurs` says so, in the order in which they ended. */
export const watchTasks = (
  isOurs: (task: Pick<TaskMessage, 'awsRequestId' | 'carried'>) => boolean,
): Watch<TaskReport> => {
  const reports: TaskReport[] = []
  const durations = createDurations()
  const ended = ({ name, status, awsRequestId, outcome, ...rest }: TaskMessage | UnstartedTaskMessage, duration = 0) =>
    reports.push({
      name,
      status: status as TaskReport['status'],
      ...('error' in rest && { error: rest.error }),
      duration,
      awsRequestId,
      outcome,
    })
  return {
    reports,
    stop: listen({
      'tracing:middy-post-invoke:task:start': message => durations.start(message),
      'tracing:middy-post-invoke:task:asyncStart': message => {
        if (isOurs(message as TaskMessage)) ended(message as TaskMessage, durations.end(message))
      },
      'middy-post-invoke:task:unstarted': message => {
        if (isOurs(message as UnstartedTaskMessage)) ended(message as UnstartedTaskMessage)
      },
    }),
  }
}

export const watchHooks = (): Watch<HookReport> => {
  const reports: HookReport[] = []
  const durations = createDurations()
  return {
    reports,
    stop: listen({
      'tracing:middy-post-invoke:hook:start': message => durations.start(message),
      'tracing:middy-post-invoke:hook:asyncStart': message => {
        const { name, status = 'completed', ...rest } = message as HookMessage
        reports.push({
          name,
          status,
          ...('error' in rest && { error: rest.error }),
          duration: durations.end(message),
        })
      },
      'tracing:middy-post-invoke:shutdown:asyncStart': message => {
        const { notRun = [] } = message as ShutdownMessage
        reports.push(...notRun.map(name => ({ name, status: 'not run', duration: 0 }) as const))
      },
    }),
  }
}

/** On the monotonic clock: tests may set the other one. */
const createDurations = () => {
  const now = () => Number(process.hrtime.bigint()) / 1e6
  const starts = new WeakMap<object, number>()
  return {
    start: (message: object) => void starts.set(message, now()),
    end: (message: object) => now() - (starts.get(message) ?? now()),
  }
}

const listen = (listeners: Readonly<Record<string, (message: object) => void>>) => {
  const entries = Object.entries(listeners).map(
    ([name, listener]) => [name, (message: unknown) => listener(message as object)] as const,
  )
  for (const [name, listener] of entries) subscribe(name, listener)
  return () => {
    for (const [name, listener] of entries) unsubscribe(name, listener)
  }
}
