// Draws docs/timeline.svg from one measured invocation of the API Gateway example with the layer.
import { writeFileSync } from 'node:fs'
import { type InvocationTimes, measure } from './measure.ts'

const WIDTH = 860
const LEFT = 148
const RIGHT = 24
const TOP = 56
const LANE = 34
const BAR = 22

const draw = ({ answeredAt, tasks, releasedAt }: InvocationTimes): string => {
  const end = releasedAt * 1.2
  const x = (time: number) => (LEFT + (time / end) * (WIDTH - LEFT - RIGHT)).toFixed(1)
  const lanes: string[] = []
  const lane = (label: string, draws: (y: number) => string) => {
    const y = TOP + lanes.length * LANE
    lanes.push(`<text class="label" x="${LEFT - 14}" y="${y + 16}">${label}</text>${draws(y)}`)
  }
  const bar = (kind: string, from: number, to: number, text: string) => (y: number) =>
    `<rect class="${kind}" x="${x(from)}" y="${y}" width="${(Number(x(to)) - Number(x(from))).toFixed(1)}" height="${BAR}" rx="4"/>` +
    `<text class="on ${kind}" x="${Number(x(from)) + 8}" y="${y + 15.5}">${text}</text>`
  const note = (from: number, text: string) => (y: number) =>
    `<text class="note" x="${Number(x(from)) + 8}" y="${y + 15.5}">${text}</text>`

  lane('caller', y => bar('caller', 0, answeredAt, 'waits')(y) + note(answeredAt, 'has its answer')(y))
  lane('handler', bar('handler', 0, answeredAt, 'works'))
  for (const { name, from, to = from } of tasks) lane(`task ${name}`, bar('task', from, to, 'runs'))
  lane('companion', y => bar('held', 0, releasedAt, 'holds the environment')(y) + note(releasedAt, 'lets go')(y))

  const bottom = TOP + lanes.length * LANE
  const moment = (time: number, text: string) =>
    `<line class="moment" x1="${x(time)}" y1="${TOP - 12}" x2="${x(time)}" y2="${bottom}"/>` +
    `<text class="moment" x="${x(time)}" y="${TOP - 20}">${text}</text>`
  const ticks = []
  for (let time = 0; time <= end; time += 50) {
    ticks.push(`<line class="tick" x1="${x(time)}" y1="${bottom}" x2="${x(time)}" y2="${bottom + 5}"/>`)
    ticks.push(`<text class="tick" x="${x(time)}" y="${bottom + 20}">${time === 0 ? '0 ms' : time}</text>`)
  }
  const height = bottom + 34

  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-labelledby="title">
<title id="title">One invocation: the response leaves after ${ms(answeredAt)}, then the deferred tasks run one after the other, and the companion lets the environment go after ${ms(releasedAt)}.</title>
<style>
  .background { fill: #ffffff; stroke: #d1d9e0 }
  text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328 }
  .label { text-anchor: end }
  rect.caller { fill: #9a6700 }
  rect.handler { fill: #0969da }
  rect.task { fill: #1a7f37 }
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
    rect.held { fill: #9198a1 }
    text.on { fill: #0d1117 }
    text.note, text.tick { fill: #9198a1 }
    line.moment { stroke: #e6edf3 }
    line.axis, line.tick { stroke: #9198a1 }
  }
</style>
<rect class="background" x="0.5" y="0.5" width="${WIDTH - 1}" height="${height - 1}" rx="8"/>
${moment(answeredAt, `response out: ${ms(answeredAt)}`)}
${moment(releasedAt, `released: ${ms(releasedAt)}`)}
${lanes.join('\n')}
<line class="axis" x1="${LEFT}" y1="${bottom}" x2="${WIDTH - RIGHT}" y2="${bottom}"/>
${ticks.join('\n')}
</svg>
`
}

const ms = (time: number) => `${Math.round(time)} ms`

const file = new URL('../docs/timeline.svg', import.meta.url)
const { companion, invocations } = await measure('layer', 2)
const warm = invocations[1]
if (companion !== 'layer' || warm?.status !== 'success' || warm.tasks.length !== 2) {
  throw new Error(`Expected an invocation with two tasks and the layer, got ${JSON.stringify({ companion, warm })}`)
}
writeFileSync(file, draw(warm))
console.log(`docs/timeline.svg: response out at ${ms(warm.answeredAt)}, released at ${ms(warm.releasedAt)}`)
