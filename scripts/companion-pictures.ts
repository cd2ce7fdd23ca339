// Draws the pictures of docs/how-it-works.md, docs/companion-*.svg: invocations and shutdowns of the API Gateway example,
// measured in the sandbox, with each companion. Unlike the pictures of `post-invoke invoke --svg` they show who asks Lambda
// for the next event, and when. Needs `npm run build`.
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import {
  createSandbox,
  type InvocationReport,
  type LogLine,
  type Sandbox,
  type SandboxEvent,
} from 'middy-post-invoke/sandbox'
import { tickStep } from '../src/cli/chart.ts'
import { STYLE } from '../src/cli/svg.ts'

// --- Measured

/** What `POST_INVOKE_COMPANION` is set to. */
type CompanionKind = 'layer' | 'embedded' | 'internal' | 'off'

/** All times are milliseconds: of an invocation since INVOKE, of the shutdown since its start. */
type Run = {
  /** What held the environment, as the package itself says: `layer`, `gate`, `internal` or `none`. */
  readonly companion: string
  readonly invocations: readonly InvocationTimes[]
  readonly shutdown: { readonly steps: readonly ShutdownStep[]; readonly endedAt: number }
}

type InvocationTimes = {
  readonly answeredAt: number
  /** In the order in which they began. */
  readonly tasks: readonly TaskTimes[]
  readonly releasedAt: number
  /** When the runtime client and the extension asked for their next event; `undefined` where there is no extension. */
  readonly nextAt: { readonly runtime: number | undefined; readonly extension: number | undefined }
  readonly status: string
}

/** `to` is missing when the task did not end. */
type TaskTimes = { readonly name: string; readonly from: number; readonly to: number | undefined }

type ShutdownStep = { readonly at: number; readonly text: string }

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))

const measure = async (companion: CompanionKind, count: number): Promise<Run> => {
  const event = JSON.parse(readFileSync(path('../examples/api-gateway/event.json'), 'utf8'))
  const sandbox = await createSandbox({
    taskRoot: path('../examples/api-gateway'),
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
      answeredAt: report.at,
      tasks: tasksOf(sandbox, report.requestId),
      releasedAt: report.releasedAt,
      nextAt: nextOf(sandbox, report.requestId),
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

const nextOf = ({ events }: Sandbox, requestId: string): InvocationTimes['nextAt'] => {
  const first = events.findIndex(event => event.type === 'invoke' && event.requestId === requestId)
  const begin = events[first]?.at ?? 0
  const at = (type: SandboxEvent['type']) => {
    const event = events.slice(first).find(event => event.type === type)
    return event && event.at - begin
  }
  return { runtime: at('runtime-next'), extension: at('extension-next') }
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

// --- Drawn

const WIDTH = 860
const LEFT = 148
const RIGHT = 24
const TOP = 56
const LANE = 34
const BAR = 22

type Kind = 'caller' | 'handler' | 'task' | 'held'
type Lane = {
  readonly label: string
  readonly bars: readonly { readonly kind: Kind; readonly from: number; readonly to: number; readonly text: string }[]
  /** Stands behind `at`. */
  readonly note?: { readonly at: number; readonly text: string }
}
type Picture = {
  readonly title: string
  readonly end: number
  readonly lanes: readonly Lane[]
  readonly moments: readonly { readonly at: number; readonly text: string }[]
}

const draw = ({ title, end, lanes, moments }: Picture): string => {
  const x = (time: number) => LEFT + (time / end) * (WIDTH - LEFT - RIGHT)
  const drawn = lanes.map(({ label, bars, note }, index) => {
    const y = TOP + index * LANE
    const parts = bars.map(({ kind, from, to, text }) => {
      const width = Math.max(3, x(to) - x(from))
      // A bar that is too short for its text goes without: the lane's label says what it is.
      const fits = width > text.length * 7 + 12
      return (
        `<rect class="${kind}" x="${x(from).toFixed(1)}" y="${y}" width="${width.toFixed(1)}" height="${BAR}" rx="4"/>` +
        (fits ? `<text class="on" x="${(x(from) + 8).toFixed(1)}" y="${y + 15.5}">${text}</text>` : '')
      )
    })
    const noted = note
      ? `<text class="note" x="${(x(note.at) + 8).toFixed(1)}" y="${y + 15.5}">${note.text}</text>`
      : ''
    return `<text class="label" x="${LEFT - 14}" y="${y + 16}">${label}</text>${parts.join('')}${noted}`
  })

  const bottom = TOP + lanes.length * LANE
  const moment = ({ at, text }: Picture['moments'][number]) =>
    `<line class="moment" x1="${x(at).toFixed(1)}" y1="${TOP - 12}" x2="${x(at).toFixed(1)}" y2="${bottom}"/>` +
    `<text class="moment" x="${x(at).toFixed(1)}" y="${TOP - 20}">${text}</text>`
  const ticks = []
  const step = tickStep(end, 8)
  for (let time = 0; time <= end; time += step) {
    const at = x(time).toFixed(1)
    ticks.push(`<line class="tick" x1="${at}" y1="${bottom}" x2="${at}" y2="${bottom + 5}"/>`)
    ticks.push(`<text class="tick" x="${at}" y="${bottom + 20}">${time === 0 ? '0 ms' : time}</text>`)
  }
  const height = bottom + 34

  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-labelledby="title">
<title id="title">${title}</title>
<style>${STYLE}</style>
<rect class="background" x="0.5" y="0.5" width="${WIDTH - 1}" height="${height - 1}" rx="8"/>
${moments.map(moment).join('\n')}
${drawn.join('\n')}
<line class="axis" x1="${LEFT}" y1="${bottom}" x2="${WIDTH - RIGHT}" y2="${bottom}"/>
${ticks.join('\n')}
</svg>
`
}

const ms = (time: number) => `${Math.round(time)} ms`

const HOLDS: Record<string, string> = { layer: 'the layer', internal: 'internal extension' }

const invocation = (companion: string, { answeredAt, tasks, releasedAt, nextAt }: InvocationTimes): Picture => {
  const isAwaited = tasks.every(({ from }) => from < answeredAt)
  const worked = isAwaited ? (tasks[0]?.from ?? answeredAt) : answeredAt
  const runtime = nextAt.runtime ?? answeredAt
  const isGate = companion === 'gate'
  return {
    title: isAwaited
      ? `One invocation without a companion: the tasks run while the caller waits, and the response leaves after ${ms(answeredAt)}.`
      : `One invocation: the response leaves after ${ms(answeredAt)}, then the deferred tasks run one after the other, and the environment is released after ${ms(releasedAt)}.`,
    end: releasedAt * 1.2,
    lanes: [
      {
        label: 'caller',
        bars: [{ kind: 'caller', from: 0, to: answeredAt, text: 'waits' }],
        note: { at: answeredAt, text: 'has its answer' },
      },
      { label: 'handler', bars: [{ kind: 'handler', from: 0, to: worked, text: 'works' }] },
      ...tasks.map(({ name, from, to = from }) => ({
        label: `task ${name}`,
        bars: [{ kind: 'task' as const, from, to, text: 'runs' }],
      })),
      {
        label: 'runtime client',
        bars: [{ kind: 'held', from: 0, to: runtime, text: isGate ? 'the gate: waits for the tasks' : 'waits' }],
        note: { at: runtime, text: 'asks for next' },
      },
      ...(nextAt.extension === undefined
        ? []
        : [
            {
              label: HOLDS[companion] ?? companion,
              bars: [{ kind: 'held' as const, from: 0, to: nextAt.extension, text: 'holds the environment' }],
              note: { at: nextAt.extension, text: 'asks for next' },
            },
          ]),
    ],
    moments: [
      { at: answeredAt, text: `response out: ${ms(answeredAt)}` },
      ...(isAwaited ? [] : [{ at: releasedAt, text: `released: ${ms(releasedAt)}` }]),
    ],
  }
}

const shutdown = ({ shutdown: { steps, endedAt } }: Run): Picture => {
  const at = (start: string, end = '') => steps.find(({ text }) => text.startsWith(start) && text.endsWith(end))?.at
  const sigterm = at('SIGTERM') ?? 0
  const died = at("the function's process ended") ?? endedAt
  const told = at('SHUTDOWN')
  const gone = at('the extension', ')') ?? endedAt
  return {
    title: `The end of an environment: SIGTERM after ${ms(sigterm)}, the shutdown hook, and the end of all after ${ms(endedAt)}.`,
    end: endedAt * 1.2,
    lanes: [
      {
        label: 'shutdown hook',
        bars: [
          {
            kind: 'task',
            from: at('shutdown hook', 'started') ?? 0,
            to: at('shutdown hook', 'ended') ?? 0,
            text: 'runs',
          },
        ],
      },
      {
        label: 'function',
        bars: [{ kind: 'handler', from: 0, to: died, text: 'lives' }],
        note: { at: died, text: 'ends itself' },
      },
      ...(told === undefined
        ? []
        : [
            {
              label: 'the layer',
              bars: [{ kind: 'held' as const, from: 0, to: gone, text: 'lives' }],
              note: { at: gone, text: 'ends after SHUTDOWN' },
            },
          ]),
    ],
    moments: [{ at: sigterm, text: 'SIGTERM' }],
  }
}

const write = (name: string, picture: Picture) => {
  writeFileSync(new URL(`../docs/${name}.svg`, import.meta.url), draw(picture))
  console.log(`docs/${name}.svg: ${picture.title}`)
}

const EXPECTED: Record<CompanionKind, string> = { layer: 'layer', embedded: 'gate', internal: 'internal', off: 'none' }

for (const [kind, expected] of Object.entries(EXPECTED) as [CompanionKind, string][]) {
  const run = await measure(kind, 2)
  const warm = run.invocations[1]
  if (run.companion !== expected || warm?.status !== 'success' || warm.tasks.length !== 2) {
    throw new Error(`Expected two tasks and the companion ${expected}, got ${JSON.stringify({ ...run, warm })}`)
  }
  write(`companion-${expected}`, invocation(expected, warm))
  if (kind === 'layer' || kind === 'embedded') write(`companion-shutdown-${expected}`, shutdown(run))
}
