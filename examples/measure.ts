// Runs the API Gateway example in the sandbox and says when what happened.
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import {
  createSandbox,
  type InvocationReport,
  type LogLine,
  type Sandbox,
  type SandboxEvent,
} from 'middy-post-invoke/sandbox'

export type CompanionKind = 'layer' | 'embedded'

/** All times are milliseconds: of an invocation since INVOKE, of the shutdown since its start. */
export type Run = {
  /** What held the environment, as the package itself says: `layer`, `gate`, `internal` or `none`. */
  readonly companion: string
  readonly invocations: readonly InvocationTimes[]
  readonly shutdown: { readonly steps: readonly ShutdownStep[]; readonly endedAt: number }
}

export type InvocationTimes = {
  readonly statusCode: number | undefined
  readonly answeredAt: number
  /** In the order in which they began. */
  readonly tasks: readonly TaskTimes[]
  readonly releasedAt: number
  readonly status: string
}

/** `to` is missing when the task did not end. */
export type TaskTimes = { readonly name: string; readonly from: number; readonly to: number | undefined }

export type ShutdownStep = { readonly at: number; readonly text: string }

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))

export const measure = async (companion: CompanionKind, count: number): Promise<Run> => {
  const event = JSON.parse(readFileSync(path('api-gateway/event.json'), 'utf8'))
  const sandbox = await createSandbox({
    taskRoot: path('api-gateway'),
    handler: 'handler.handler',
    layers: companion === 'layer' ? [path('../dist/layer')] : [],
    freeze: true, // as on Lambda: what is not held stands still
    environment: { POST_INVOKE_COMPANION: companion, POST_INVOKE_LOG_LEVEL: 'DEBUG' },
  })
  const reports: InvocationReport[] = []
  try {
    for (let invocation = 0; invocation < count; invocation++) reports.push(await sandbox.invoke(event))
    await sandbox.shutdown()
  } finally {
    await sandbox[Symbol.asyncDispose]()
  }

  return {
    companion: companionOf(sandbox.logs),
    invocations: reports.map(report => ({
      statusCode: report.kind === 'response' ? report.body().statusCode : undefined,
      answeredAt: report.at,
      tasks: tasksOf(sandbox, report.requestId),
      releasedAt: report.releasedAt,
      status: report.status,
    })),
    shutdown: shutdownOf(sandbox),
  }
}

const companionOf = (logs: readonly LogLine[]): string =>
  logs.map(({ text }) => /middy-post-invoke: companion: (\w+)/.exec(text)?.[1]).find(Boolean) ?? 'none'

/** From the lines that the example's tasks log, which carry a time of the same clock as the events. */
const tasksOf = ({ events, logs }: Sandbox, requestId: string): TaskTimes[] => {
  const invokes = events.filter(event => event.type === 'invoke')
  const index = invokes.findIndex(event => event.requestId === requestId)
  const begin = invokes[index]?.at ?? 0
  const shutdown = events.find(event => event.type === 'shutdown-started')
  const end = invokes[index + 1]?.at ?? shutdown?.at ?? Number.POSITIVE_INFINITY
  const lines = logs
    .filter(({ source, at, text }) => source === 'function' && at >= begin && at < end && text.startsWith('{"task"'))
    .map(({ at, text }) => ({ at: at - begin, ...(JSON.parse(text) as { task: string; state: string }) }))
  return lines
    .filter(({ state }) => state === 'started')
    .map(({ task, at }) => ({
      name: task,
      from: at,
      to: lines.find(line => line.task === task && line.state === 'ended')?.at,
    }))
}

const shutdownOf = ({ events, logs }: Sandbox): Run['shutdown'] => {
  const first = events.findIndex(event => event.type === 'shutdown-started')
  const begin = events[first]?.at ?? 0
  const steps = events.slice(first).flatMap(event => {
    const text = describeStep(event)
    return text ? [{ at: event.at - begin, text }] : []
  })
  for (const { at, text } of logs) {
    if (at < begin || !text.startsWith('{"task"')) continue
    const { task, state } = JSON.parse(text) as { task: string; state: string }
    steps.push({ at: at - begin, text: `shutdown hook "${task}" ${state}` })
  }
  steps.sort((one, other) => one.at - other.at)
  const last = events.find(event => event.type === 'shutdown-ended')
  return { steps, endedAt: (last?.at ?? Number.NaN) - begin }
}

const describeStep = (event: SandboxEvent): string | undefined => {
  switch (event.type) {
    case 'sigterm':
      return `SIGTERM to ${processName(event.process)}`
    case 'sigkill':
      return `SIGKILL to ${processName(event.process)}`
    case 'shutdown-event':
      return `SHUTDOWN to ${processName(event.name)}`
    case 'process-exited':
      return `${processName(event.process)} ended (${event.signal ?? `exit code ${event.exitCode}`})`
    default:
      return undefined
  }
}

const processName = (name: string) => (name === 'function' ? "the function's process" : `the extension ${name}`)
