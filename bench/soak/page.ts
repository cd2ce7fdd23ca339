// The section of docs/reliability.md that a soak writes itself: a row for each combination, and on what it was measured.
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { contentOf, editPage, replaceContent } from '../../test/support/fault-table.ts'
import { tableToMarkdown } from '../page.ts'
import type { Totals } from './books.ts'
import type { Combination } from './settings.ts'

const BEGIN = '<!-- soak -->'
const END = '<!-- end of soak -->'

const COLUMNS = [
  ...[
    'Runtime client',
    'Companion',
    'Invocations',
    'Answers missing',
    'Tasks',
    'Run',
    'Reported',
    'Not for the outcome',
  ],
  ...['Killed without a layer', 'Killed with the invocation', 'Killed before the layer had connected'],
  ...['Lost in silence', 'Hangs', 'Ends by faults', 'Heap', 'Process', 'Companion process', 'Seed'],
]

/** Of which a sum means something. */
const SUMMED = COLUMNS.slice(2, 14)

export type SoakRow = Combination & {
  readonly totals: Totals
  readonly slopes: { readonly heap: string; readonly process: string; readonly companion: string }
  readonly seed: number
}

/** Puts a row into the table, in place of that of the same combination. One of another day or version begins anew. */
export const writeSoakRow = (row: SoakRow, how: string): void => {
  const facts = describe(how)
  editPage(text => {
    const content = contentOf(text, BEGIN, END)
    const others = content.startsWith(facts) ? rowsOf(content) : []
    const cells = cellsOf(row)
    const rows = [...others.filter(other => keyOf(other) !== keyOf(cells)), cells].sort((one, other) =>
      keyOf(one) < keyOf(other) ? -1 : 1,
    )
    const table = tableToMarkdown({ columns: COLUMNS, rows: [...rows, sumOf(rows)] })
    return replaceContent(text, BEGIN, END, `${facts}\n\n${table}`)
  })
}

const cellsOf = ({ client, companion, totals, slopes, seed }: SoakRow): string[] => [
  client.name.replace('aws-lambda-ric', 'RIC'),
  companion === 'internal' ? 'internal extension' : companion,
  ...[
    ...[totals.invocations, totals.missing, totals.deferred, totals.run, totals.reported, totals.skipped],
    ...[totals.unnamedWithoutLayer, totals.unnamedInFailed, totals.unnamedBeforeLayer],
    ...[totals.lost, totals.hangs, totals.resets],
  ].map(String),
  slopes.heap,
  slopes.process,
  companion === 'layer' ? slopes.companion : '',
  String(seed),
]

const keyOf = ([client, companion]: readonly string[]) => `${client}, ${companion}`

/** Without the head of the table, and without the sum. */
const rowsOf = (content: string): string[][] =>
  content
    .split('\n')
    .filter(line => line.startsWith('| '))
    .slice(2, -1)
    .map(line => line.slice(2, -2).split(' | '))

const sumOf = (rows: readonly (readonly string[])[]): string[] =>
  COLUMNS.map((column, index) => {
    if (index === 0) return 'all'
    return SUMMED.includes(column) ? String(rows.reduce((sum, cells) => sum + Number(cells[index]), 0)) : ''
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
