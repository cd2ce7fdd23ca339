// The tables of docs/evidence/reliability.md that a soak writes itself, one with faults and one of memory without them: a row for
// each combination, and on what it was measured.
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { contentOf, editPage, replaceContent } from '../../test/support/fault-table.ts'
import { tableToMarkdown } from '../page.ts'
import type { Totals } from './books.ts'
import type { Combination } from './settings.ts'

type Table = {
  readonly begin: string
  readonly end: string
  readonly columns: readonly string[]
  /** How many of the columns, from the third on, are counts, of which the last row has the sum. */
  readonly counts: number
  cells(row: SoakRow): readonly (string | number)[]
}

const faults: Table = {
  begin: '<!-- soak: faults -->',
  end: '<!-- end of soak: faults -->',
  columns: [
    ...['Invocations', 'Answers missing', 'Tasks', 'Run', 'Reported', 'Not for the outcome', 'Killed with the gate'],
    ...['Lost in silence', 'Hangs', 'Ends by faults', 'Seed'],
  ],
  counts: 10,
  cells: ({ totals, seed }) => [
    ...[totals.invocations, totals.missing, totals.deferred, totals.run, totals.reported, totals.skipped],
    ...[totals.unnamedWithGate, totals.lost, totals.hangs, totals.resets, seed],
  ],
}

const memory: Table = {
  begin: '<!-- soak: memory -->',
  end: '<!-- end of soak: memory -->',
  columns: [
    'Invocations',
    'Answers missing',
    'Lost in silence',
    "Function's heap",
    'Its process',
    "Companion's process",
    'Seed',
  ],
  counts: 3,
  cells: ({ companion, totals, slopes, seed }) => [
    ...[totals.invocations, totals.missing, totals.lost, slopes.heap, slopes.process],
    ...[companion === 'gate' ? '' : slopes.companion, seed],
  ],
}

export type SoakRow = Combination & {
  readonly totals: Totals
  readonly slopes: { readonly heap: string; readonly process: string; readonly companion: string }
  readonly seed: number
}

/** Puts a row into its table, in place of that of the same combination. One of another day or version begins anew. */
export const writeSoakRow = (row: SoakRow, hasFaults: boolean, how: string): void => {
  const { begin, end, counts, columns, cells } = hasFaults ? faults : memory
  const facts = describe(how)
  editPage(text => {
    const content = contentOf(text, begin, end)
    const hasColumns = content.includes(`| Companion | ${columns.join(' | ')} |`)
    const others = content.startsWith(facts) && hasColumns ? rowsOf(content) : []
    const own = [...nameOf(row), ...cells(row).map(String)]
    const isOwn = ([client, companion]: readonly string[]) => client === own[0] && companion === own[1]
    const rows = [...others.filter(other => !isOwn(other)), own].sort(byName)
    const table = { columns: ['Runtime client', 'Companion', ...columns], rows: [...rows, sumOf(rows, counts)] }
    return replaceContent(text, begin, end, `${facts}\n\n${tableToMarkdown(table)}`)
  })
}

const nameOf = ({ client, companion }: Combination): string[] => [
  client.name.replace('aws-lambda-ric', 'RIC'),
  companion === 'internal' ? 'internal extension' : companion,
]

const byName = (one: readonly string[], other: readonly string[]) =>
  one.slice(0, 2).join().localeCompare(other.slice(0, 2).join())

/** Without the head of the table, and without the sum. */
const rowsOf = (content: string): string[][] =>
  content
    .split('\n')
    .filter(line => line.startsWith('| '))
    .slice(2, -1)
    .map(line => line.slice(2, -2).split(' | '))

const sumOf = (rows: readonly (readonly string[])[], counts: number): string[] =>
  (rows[0] ?? []).map((_, index) => {
    if (index === 0) return 'all'
    const isCount = index >= 2 && index < 2 + counts
    return isCount ? String(rows.reduce((sum, cells) => sum + Number(cells[index]), 0)) : ''
  })

const versionIn = (folder: string): string => JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')).version

const describe = (how: string): string => {
  const { POST_INVOKE_TEST_NODE22, POST_INVOKE_TEST_RIC3, POST_INVOKE_TEST_RIC4 } = process.env
  const root = fileURLToPath(new URL('../..', import.meta.url))
  return [
    `\`${how}\` on ${new Date().toISOString().slice(0, 10)}: middy-post-invoke ${versionIn(root)}`,
    `@middy/core ${versionIn(join(root, 'node_modules', '@middy/core'))}`,
    `Node.js ${process.version.slice(1)}`,
    ...(POST_INVOKE_TEST_RIC4 ? [`RIC ${versionIn(POST_INVOKE_TEST_RIC4)}`] : []),
    ...(POST_INVOKE_TEST_RIC3 ? [`RIC ${versionIn(POST_INVOKE_TEST_RIC3)}`] : []),
    ...(POST_INVOKE_TEST_NODE22
      ? [
          `with it Node.js ${execFileSync(POST_INVOKE_TEST_NODE22, ['--version'], { encoding: 'utf8' }).trim().slice(1)}`,
        ]
      : []),
  ].join(', ')
}
