// What a section of the benchmark gives, and how it is written: as Markdown on the page, as text on the terminal.
import type { Estimate } from './statistics.ts'

export type Section = {
  readonly title: string
  /** What was measured, and how to read it. */
  readonly text: string
  readonly tables: readonly Table[]
  readonly targets: readonly Target[]
  /** What was measured against itself: how far a figure of this section can be off. */
  readonly controls?: readonly Control[]
}

export type Table = { readonly columns: readonly string[]; readonly rows: readonly (readonly string[])[] }

export type Target = {
  readonly figure: string
  /** The figure is to be no more than this. */
  readonly limit: number
  readonly unit: Unit
  readonly measured: number | Estimate
  /** Why it is missed, if it is, with the floor that was measured beside it. */
  readonly ifMissed: string
}

export type Control = { readonly figure: string; readonly unit: Unit; readonly measured: Estimate }

export type Unit = 'ms' | 'MB' | 'kB' | '×' | 'lines'

export const isMet = ({ measured, limit }: Target): boolean => figureOf(measured) <= limit

export const toMarkdown = ({ title, text, tables }: Section): string =>
  [`## ${title}`, text, ...tables.map(tableToMarkdown)].join('\n\n')

export const targetsTable = (targets: readonly Target[]): Table => ({
  columns: ['Figure', 'Target', 'Measured', '', 'Why missed'],
  rows: targets.map(target => [
    target.figure,
    `≤ ${target.limit.toLocaleString('en')}${space(target.unit)}`,
    withUnit(target.measured, target.unit),
    isMet(target) ? 'met' : '**missed**',
    isMet(target) ? '' : target.ifMissed,
  ]),
})

export const controlsTable = (controls: readonly Control[]): Table => ({
  columns: ['The same twice', 'Measured'],
  rows: controls.map(({ figure, unit, measured }) => [figure, withUnit(measured, unit)]),
})

export const tableToMarkdown = ({ columns, rows }: Table): string => {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  const rule = columns.map((_, index) => (index === 0 ? '---' : '--:'))
  return [line(columns), line(rule), ...rows.map(line)].join('\n')
}

/** For the terminal: columns under each other. */
export const tableToText = ({ columns, rows }: Table): string => {
  const widths = columns.map((column, index) => Math.max(column.length, ...rows.map(row => row[index]?.length ?? 0)))
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, index) => (index === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[index] ?? 0)))
      .join('  ')
  return [columns, ...rows].map(line).join('\n')
}

export const withUnit = (measured: number | Estimate, unit: Unit): string =>
  typeof measured === 'number'
    ? `${digits(measured)}${space(unit)}`
    : `${digits(measured.value)}${space(unit)} (${digits(measured.low)} … ${digits(measured.high)})`

/** Three digits that count, and none that the measurement does not have. */
export const digits = (value: number): string => {
  if (Number.isNaN(value)) return '–' // it does not do that
  const size = Math.abs(value)
  return size >= 100 ? Math.round(value).toLocaleString('en') : value.toFixed(size >= 10 ? 1 : 2)
}

const space = (unit: Unit) => (unit === '×' ? '' : ` ${unit}`)

const figureOf = (measured: number | Estimate) => (typeof measured === 'number' ? measured : measured.value)
