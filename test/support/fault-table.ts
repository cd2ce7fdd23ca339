// The tables of docs/evidence/reliability.md: each test file owns one, between two markers. A run compares each row with
// what stands there; with POST_INVOKE_WRITE_DOCS=1 it writes the rows that it has run, leaves the others as they are, and
// writes docs/reliability.md anew.
import { mkdirSync, readFileSync, renameSync, rmdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { summarizeFaults } from './fault-page.ts'

export type Row = {
  readonly injected: string
  readonly client: string
  readonly companion: string
  readonly caller: string
  readonly tasks: string
  readonly logged: string
  readonly next: string
  readonly verdict: string
}

export const writesDocs = process.env.POST_INVOKE_WRITE_DOCS === '1'

const page = fileURLToPath(new URL('../../docs/evidence/reliability.md', import.meta.url))
const matrix = fileURLToPath(new URL('../../docs/reliability.md', import.meta.url))

const COLUMNS: Record<keyof Row, string> = {
  injected: 'Injected',
  client: 'Runtime client',
  companion: 'Companion',
  caller: 'The caller got',
  tasks: 'Deferred tasks',
  logged: 'Logged',
  next: 'The next invocation',
  verdict: 'Verdict',
}

export const keyOf = ({ injected, client, companion }: Pick<Row, 'injected' | 'client' | 'companion'>) =>
  `${injected} | ${client} | ${companion}`

/** The rows of one table, or of all, as they stand in the page. */
export const readRows = (table?: string): Row[] => {
  const text = readFileSync(page, 'utf8')
  const names = table === undefined ? tableNames(text) : [table]
  return names.flatMap(name => parse(tableIn(text, name)))
}

/** Puts rows into a table: in the order of `keys`, those that have not been run as they were, and no others. */
export const writeRows = (table: string, keys: readonly string[], ran: readonly Row[]): void => {
  editPage(text => {
    const rows = new Map([...parse(tableIn(text, table)), ...ran].map(row => [keyOf(row), row]))
    const kept = keys.flatMap(key => rows.get(key) ?? [])
    const written = replaceContent(text, begin(table), end(table), format(kept))
    const all = tableNames(written).flatMap(name => parse(tableIn(written, name)))
    return replaceContent(written, begin(SUMMARY), end(SUMMARY), summarize(all))
  })
}

/** Changes the page, one writer at a time. */
export const editPage = (edit: (text: string) => string): void => {
  const release = lock()
  try {
    const text = edit(readFileSync(page, 'utf8'))
    // Whole or not at all, also for somebody who reads meanwhile.
    for (const [file, content] of [[page, text] as const, [matrix, toMatrix(text)] as const]) {
      writeFileSync(`${file}.new`, content)
      renameSync(`${file}.new`, file)
    }
  } finally {
    release()
  }
}

/** docs/reliability.md, of what stands in the evidence. */
export const toMatrix = (text: string = readFileSync(page, 'utf8')): string => {
  const tables = tableNames(text).map(name => {
    const before = text.slice(0, text.indexOf(begin(name)))
    const title = before.slice(before.lastIndexOf('\n## ') + 4).split('\n')[0] as string
    return { title, rows: parse(tableIn(text, name)) }
  })
  const soak = contentOf(text, '<!-- soak: faults -->', '<!-- end of soak: faults -->')
  const [head = [], , ...rows] = soak
    .split('\n')
    .filter(line => line.startsWith('| '))
    .map(line => line.slice(2, -2).split(' | '))
  const last = rows.at(-1) ?? []
  return summarizeFaults(tables, Object.fromEntries(head.map((name, index) => [name, last[index]?.trim() ?? ''])))
}

export const readMatrix = (): string => readFileSync(matrix, 'utf8')

const SUMMARY = 'summary'

/** How many rows have which verdict. */
export const summarize = (rows: readonly Row[]): string => {
  const counts = Map.groupBy(rows, ({ verdict }) => verdict.split(':')[0] as string)
  const lines = [...counts]
    .sort(([, one], [, other]) => other.length - one.length)
    .map(([verdict, { length }]) => `| ${verdict} | ${length} |`)
  return ['| Verdict | Rows |', '|---|---|', ...lines, `| all | ${rows.length} |`].join('\n')
}

export const readSummary = (): string => tableIn(readFileSync(page, 'utf8'), SUMMARY)

const begin = (name: string) => `<!-- faults: ${name} -->`
const end = (name: string) => `<!-- end of faults: ${name} -->`

const tableNames = (text: string): string[] =>
  [...text.matchAll(/^<!-- faults: (\S+) -->$/gm)].map(match => match[1] as string).filter(name => name !== SUMMARY)

const tableIn = (text: string, name: string): string => contentOf(text, begin(name), end(name))

/** What stands between two markers of the page. */
export const contentOf = (text: string, from: string, to: string): string =>
  text.slice(...bounds(text, from, to)).trim()

export const replaceContent = (text: string, from: string, to: string, content: string): string => {
  const [start, stop] = bounds(text, from, to)
  return `${text.slice(0, start)}\n${content}\n${text.slice(stop)}`
}

const bounds = (text: string, from: string, to: string): [number, number] => {
  const start = text.indexOf(from)
  const stop = text.indexOf(to)
  if (start < 0 || stop < start)
    throw new Error(`Expected docs/evidence/reliability.md to have the markers ${from} and ${to}`)
  return [start + from.length, stop]
}

const names = Object.keys(COLUMNS) as (keyof Row)[]

const format = (rows: readonly Row[]): string =>
  [
    `| ${Object.values(COLUMNS).join(' | ')} |`,
    `|${'---|'.repeat(names.length)}`,
    ...rows.map(row => `| ${names.map(name => row[name].replaceAll('|', '\\|')).join(' | ')} |`),
  ].join('\n')

const parse = (content: string): Row[] =>
  content
    .split('\n')
    .slice(2)
    .map(line => {
      const cells = line.slice(2, -2).split(' | ')
      return Object.fromEntries(names.map((name, index) => [name, cells[index]?.replaceAll('\\|', '|') ?? ''])) as Row
    })

/** One writer at a time: test files run side by side. A folder can be made only once. */
const lock = (): (() => void) => {
  const folder = `${page}.lock`
  const give = Date.now() + 10_000
  for (;;) {
    try {
      mkdirSync(folder)
      return () => rmdirSync(folder)
    } catch (error) {
      if (Date.now() > give) throw error
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20)
    }
  }
}
