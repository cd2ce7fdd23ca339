// Bars, as an SVG picture that is legible on light and on dark grounds: with a title, an axis, its unit, and ours in a
// colour of their own.
import { STYLE } from '../src/cli/svg.ts'
import { digits } from './page.ts'
import type { Bar } from './summary.ts'

const WIDTH = 860
const RIGHT = 70
const LANE = 26
const BAR = 17
const TOP = 52
const BOTTOM = 50
/** Of a letter, about: labels are set to the left of the bars. */
const LETTER = 7.6

export const drawBars = ({ title, unit, bars }: { title: string; unit: string; bars: readonly Bar[] }): string => {
  const left = Math.ceil(24 + Math.max(...bars.map(({ label }) => label.length)) * LETTER)
  const step = stepOf(Math.max(...bars.map(({ value }) => value)))
  const count = Math.ceil(Math.max(...bars.map(({ value }) => value)) / step)
  const x = (value: number) => left + (value / (count * step)) * (WIDTH - left - RIGHT)
  const end = TOP + bars.length * LANE
  const lanes = bars.map(({ label, value, isOurs }, index) => {
    const y = TOP + 5 + index * LANE
    const width = Math.max(2, x(value) - left)
    return `  <text class="label${isOurs ? ' ours' : ''}" x="${left - 12}" y="${y + 13}">${xml(label)}</text>
  <rect class="${isOurs ? 'task' : 'held'}" x="${left}" y="${y}" width="${width.toFixed(1)}" height="${BAR}" rx="2"/>
  <text class="note" x="${(left + width + 8).toFixed(1)}" y="${y + 13}">${digits(value)}</text>`
  })
  const ticks = Array.from({ length: count + 1 }, (_, index) => {
    const at = x(index * step).toFixed(1)
    const text = Number((index * step).toPrecision(3)).toLocaleString('en')
    return `  <line class="tick" x1="${at}" y1="${end}" x2="${at}" y2="${end + 5}"/>
  <text class="tick" x="${at}" y="${end + 18}">${text}</text>`
  })
  const height = end + BOTTOM
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-labelledby="title">
  <title id="title">${xml(title)}</title>
  <style>${STYLE}
  .title { font-size: 15px; font-weight: 600 }
  .ours { font-weight: 600 }</style>
  <rect class="background" x="0.5" y="0.5" width="${WIDTH - 1}" height="${height - 1}" rx="6"/>
  <text class="title" x="16" y="30">${xml(title)}</text>
${lanes.join('\n')}
  <line class="axis" x1="${left}" y1="${end}" x2="${WIDTH - RIGHT}" y2="${end}"/>
${ticks.join('\n')}
  <text class="tick" x="${((left + WIDTH - RIGHT) / 2).toFixed(1)}" y="${end + 38}">${xml(unit)}</text>
</svg>
`
}

/** 1, 2 or 5 of some power of ten: four to nine of them hold the longest. */
const stepOf = (longest: number): number => {
  const power = 10 ** Math.floor(Math.log10(longest / 4))
  return ([1, 2, 5].find(times => longest / (times * power) <= 9) ?? 10) * power
}

const xml = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
