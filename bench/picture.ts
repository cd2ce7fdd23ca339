// Bars, as an SVG picture that is legible on light and on dark grounds.
import { STYLE } from '../src/cli/svg.ts'
import { digits } from './page.ts'

const WIDTH = 860
const LEFT = 210
const RIGHT = 70
const LANE = 28
const BAR = 18
const PADDING = 12

export const drawBars = (title: string, bars: readonly { label: string; value: number }[]): string => {
  const longest = Math.max(...bars.map(({ value }) => value))
  const height = bars.length * LANE + 2 * PADDING
  const drawn = bars.map(({ label, value }, index) => {
    const y = PADDING + 5 + index * LANE
    const width = Math.max(2, (value / longest) * (WIDTH - LEFT - RIGHT))
    return `  <text class="label" x="${LEFT - 14}" y="${y + 14}">${xml(label)}</text>
  <rect class="held" x="${LEFT}" y="${y}" width="${width.toFixed(1)}" height="${BAR}" rx="2"/>
  <text class="note" x="${(LEFT + width + 8).toFixed(1)}" y="${y + 14}">${digits(value)}</text>`
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-labelledby="title">
  <title id="title">${xml(title)}</title>
  <style>${STYLE}</style>
  <rect class="background" x="0.5" y="0.5" width="${WIDTH - 1}" height="${height - 1}" rx="6"/>
${drawn.join('\n')}
</svg>
`
}

const xml = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
