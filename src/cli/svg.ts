// An invocation as an SVG picture, legible on light and on dark grounds.
import { RELEASE, tickStep } from './chart.ts'
import { taskTitle } from './moments.ts'
import type { InvocationRun, TaskRun } from './run.ts'
import { cut } from './terminal.ts'

const WIDTH = 860
const RIGHT = 24
const TOP = 56
const LANE = 34
const BAR = 22
const MAX_TASKS = 30
const MAX_LABEL = 28
/** Wider than the letters of a system's font are at 13 pixels, by a little. */
const LETTER = 7.4

export const drawSvg = (run: InvocationRun): string => {
  const { status, answeredAt, tasks, releasedAt } = run
  const shown = tasks.slice(0, MAX_TASKS)
  const unstarted = run.unstarted
    .filter(({ status }) => status === 'dropped' || status === 'lost')
    .map(({ name, at }) => ({ label: taskTitle(name), at, text: 'never started' }))
  const handedOff = run.handedOff.map(({ name, at, status }) => ({
    label: name,
    at,
    text: `handed off, ${{ done: 'done', failed: 'failed', waiting: 'waits', lost: 'not done' }[status]}`,
  }))
  const marks = [...unstarted, ...handedOff].slice(0, MAX_TASKS)
  const more = tasks.length - shown.length
  const labels = shown.map(({ name }) => cut(taskTitle(name), MAX_LABEL))
  const left =
    28 +
    Math.ceil(
      LETTER *
        Math.max(
          'companion'.length,
          ...[...labels, ...marks.map(({ label }) => cut(label, MAX_LABEL))].map(label => label.length),
        ),
    )
  const last = Math.max(releasedAt, ...shown.map(({ startedAt, endedAt = startedAt }) => endedAt), 0.001)
  /** What did not end is drawn to the end. */
  const taskEnd = ({ endedAt = last }: TaskRun) => endedAt
  const end = last * 1.2 // the rest is for what stands behind the last bar
  const x = (time: number) => left + (time / end) * (WIDTH - left - RIGHT)
  const lanes: string[] = []
  const lane = (label: string, draws: (y: number) => string) => {
    const y = TOP + lanes.length * LANE
    lanes.push(`<text class="label" x="${left - 14}" y="${y + 16}">${xml(label)}</text>${draws(y)}`)
  }
  const bar = (kind: string, from: number, to: number, text: string) => (y: number) => {
    const width = Math.max(2, x(to) - x(from))
    const fits = width > text.length * LETTER + 12
    return (
      `<rect class="${kind}" x="${px(x(from))}" y="${y}" width="${px(width)}" height="${BAR}" rx="${fits ? 4 : 1}"/>` +
      (fits ? `<text class="on" x="${px(x(from) + 8)}" y="${y + 15.5}">${xml(text)}</text>` : '')
    )
  }
  const note = (from: number, text: string) => (y: number) =>
    `<text class="note" x="${px(x(from) + 8)}" y="${y + 15.5}">${xml(text)}</text>`

  lane('caller', y => bar('caller', 0, answeredAt, 'waits')(y) + note(answeredAt, 'has its answer')(y))
  lane('handler', bar('handler', 0, answeredAt, 'works'))
  shown.forEach((task, index) => {
    const isDone = task.status === 'completed'
    const text = isDone ? 'runs' : (task.status ?? 'did not end')
    const end = taskEnd(task)
    const isNarrow = x(end) - x(task.startedAt) <= text.length * LETTER + 12
    lane(labels[index] ?? '', y => {
      const drawn = bar(isDone ? 'task' : 'failed', task.startedAt, end, text)(y)
      return isNarrow && !isDone ? drawn + note(end, text)(y) : drawn
    })
  })
  if (more > 0) lane('', y => `<text class="note" x="${px(left)}" y="${y + 15.5}">and ${more} more tasks</text>`)
  for (const { label, at, text } of marks) lane(cut(label, MAX_LABEL), y => note(Math.min(at, last), text)(y))
  lane(
    'companion',
    y => bar('held', 0, releasedAt, 'holds the environment')(y) + note(releasedAt, RELEASE[status].end)(y),
  )

  const bottom = TOP + lanes.length * LANE
  const ticks: string[] = []
  const step = tickStep(end, 8)
  for (let time = 0; time <= end; time += step) {
    const text = time === 0 ? '0 ms' : String(Number(time.toFixed(3)))
    ticks.push(`<line class="tick" x1="${px(x(time))}" y1="${bottom}" x2="${px(x(time))}" y2="${bottom + 5}"/>`)
    ticks.push(`<text class="tick" x="${px(x(time))}" y="${bottom + 20}">${text}</text>`)
  }
  const height = bottom + 34
  const title = `One invocation: the response leaves after ${ms(answeredAt)}, ${shown.length === 0 ? 'no deferred task runs' : 'then the deferred tasks run'}, and the environment is ${RELEASED[status]} after ${ms(releasedAt)}.`

  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-labelledby="title">
<title id="title">${title}</title>
<style>${STYLE}</style>
<rect class="background" x="0.5" y="0.5" width="${WIDTH - 1}" height="${height - 1}" rx="8"/>
${drawMoments([x(answeredAt), `response out: ${ms(answeredAt)}`], [x(releasedAt), `${MOMENT[status]}: ${ms(releasedAt)}`], bottom)}
${lanes.join('\n')}
<line class="axis" x1="${left}" y1="${bottom}" x2="${WIDTH - RIGHT}" y2="${bottom}"/>
${ticks.join('\n')}
</svg>
`
}

const RELEASED = { success: 'let go', error: 'let go', timeout: 'ended by a timeout', crash: 'ended by a crash' }
const MOMENT = { success: 'released', error: 'released', timeout: 'timed out', crash: 'crashed' }

type Labelled = readonly [x: number, text: string]

/** The two moments that count, as lines from top to bottom. Their texts stand over them, and keep out of each other's way. */
const drawMoments = (response: Labelled, released: Labelled, bottom: number): string => {
  const half = ([, text]: Labelled) => (text.length * LETTER) / 2
  const inside = (center: number, of: Labelled) => Math.min(WIDTH - 12 - half(of), Math.max(12 + half(of), center))
  const gap = 16
  const second = inside(Math.max(released[0], 12 + 2 * half(response) + gap + half(released)), released)
  const first = inside(Math.min(response[0], second - half(released) - gap - half(response)), response)
  return [[response, first] as const, [released, second] as const]
    .map(
      ([[x, text], center]) =>
        `<line class="moment" x1="${px(x)}" y1="${TOP - 12}" x2="${px(x)}" y2="${bottom}"/>` +
        `<text class="moment" x="${px(center)}" y="${TOP - 20}">${text}</text>`,
    )
    .join('\n')
}

/** The look of every picture of a run. */
export const STYLE = `
  .background { fill: #ffffff; stroke: #d1d9e0 }
  text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328 }
  .label { text-anchor: end }
  rect.caller { fill: #9a6700 }
  rect.handler { fill: #0969da }
  rect.task { fill: #1a7f37 }
  rect.failed { fill: #d1242f }
  rect.held { fill: #59636e }
  text.on { fill: #ffffff; font-size: 12px }
  text.note { fill: #59636e; font-size: 12px }
  line.moment { stroke: #1f2328; stroke-dasharray: 3 3 }
  text.moment { text-anchor: middle; font-weight: 600 }
  line.axis, line.tick { stroke: #59636e }
  text.tick { text-anchor: middle; fill: #59636e; font-size: 11px }
  @media (prefers-color-scheme: dark) {
    .background { fill: #0d1117; stroke: #3d444d }
    text { fill: #e6edf3 }
    rect.caller { fill: #d29922 }
    rect.handler { fill: #4493f8 }
    rect.task { fill: #3fb950 }
    rect.failed { fill: #f85149 }
    rect.held { fill: #9198a1 }
    text.on { fill: #0d1117 }
    text.note, text.tick { fill: #9198a1 }
    line.moment { stroke: #e6edf3 }
    line.axis, line.tick { stroke: #9198a1 }
  }
`

const ms = (time: number) => `${Math.round(time)} ms`

const px = (value: number) => Number(value.toFixed(1))

const xml = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
