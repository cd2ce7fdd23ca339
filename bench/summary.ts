// docs/performance.md and its three pictures, from the tables of docs/evidence/performance.md: the figures that one decides
// by. By itself it writes them again: `node bench/summary.ts`.
import { readFileSync, writeFileSync } from 'node:fs'
import { drawBars } from './picture.ts'

const EVIDENCE = new URL('../docs/evidence/performance.md', import.meta.url)

/** As the evidence names it, without its client, and as a reader knows it. */
const OURS: Readonly<Record<string, string>> = {
  gate: 'middy-post-invoke, gate',
  internal: 'middy-post-invoke, internal',
  layer: 'middy-post-invoke, layer',
}

const OTHERS: Readonly<Record<string, string>> = {
  plain: 'plain Middy',
  again: 'plain Middy, measured again',
  awaited: 'the same work, awaited',
  streamed: 'the same work, behind a stream',
  'layer again': 'middy-post-invoke, layer, measured again',
}

/** The files of docs/ that the evidence gives, by name. */
export const summarize = (evidence: string): Readonly<Record<string, string>> => {
  const tables = readTables(evidence)
  /** A cell, by the heading of its section and its row; `–` where it was not measured. */
  const cell = (section: string, row: string, column: string): string =>
    tables.filter(one => one.section === section).flatMap(({ rows }) => rows.get(row)?.[column] || [])[0] ?? '–'
  const target = (figure: string) => cell('Targets', figure, 'Measured')

  const answer = (name: string, column = 'over plain Middy') => cell(ANSWERS, `RIC 4, ${name}, 1 task`, column)
  const init = (name: string) => cell('Cold start', `RIC 4, ${name}`, 'over plain')
  const figures: readonly (readonly [string, string, string])[] = [
    [
      'An answer with one task behind it, over plain Middy: layer',
      answer('layer'),
      `plain Middy, measured again: ${answer('again')}; beside an extension that does nothing: ${answer('beside an idle extension')}`,
    ],
    ['… gate', answer('gate'), `hooks that do nothing: ${answer('hooks that do nothing')}`],
    [
      'The caller’s wait with three seconds of work: layer',
      `${cell('Three seconds of work', 'RIC 4, layer', 'with work, ms')} ms`,
      `awaited: ${cell('Three seconds of work', 'RIC 4, awaited', 'with work, ms')} ms`,
    ],
    [
      'From the last task’s end until the environment is let go: layer',
      target("last task's end → release: RIC 4, layer, 1 task"),
      `plain Middy, from its answer: ${cell(ANSWERS, 'RIC 4, plain, no task', 'answer → release, ms')} ms`,
    ],
    ['Added to a cold start: layer', init('layer'), `the same twice: ${init('again')}`],
    [
      '… internal extension',
      init('internal'),
      `an extension in Node.js: ${init('plain beside an extension in Node.js')}`,
    ],
    ['… gate', init('gate'), `the import alone: ${init('the middleware imported')}`],
    [
      'Memory of the companion’s process, RSS: layer',
      `${cell(START, 'layer', 'RSS, MB')} MB`,
      `an extension in Node.js: ${cell(START, 'Node.js that registers itself', 'RSS, MB')} MB`,
    ],
    [
      'The companion’s time on a processor, an invocation with a task: layer',
      target("the companion's time on a processor, an invocation with 1 task: RIC 4, layer"),
      `an extension that only asks for events: ${cell('Memory', 'RIC 4, beside an extension in bare bash', '1 task')} ms`,
    ],
    [
      'Added to a bundle, minified and gzipped',
      `${cell('Size', 'postInvoke() and context.defer', 'added, gzip')} kB`,
      `plain Middy itself: ${cell('Size', 'plain Middy', 'and gzip, kB')} kB`,
    ],
  ]

  const answers = bars(tables, ANSWERS, /^RIC 4, (.+), 1 task$/, 'median, ms')
  const starts = bars(tables, 'Cold start', /^RIC 4, (.+)$/, 'Init, ms')
  const memory = bars(tables, START, /^(.+)$/, 'RSS, MB')
  const pictures = [
    {
      file: 'performance-answer.svg',
      title: 'How long the caller waits, with 5 ms of work in each invocation',
      unit: 'milliseconds, median, nodejs24.x',
      bars: answers,
    },
    {
      file: 'performance-start.svg',
      title: 'How long a cold start takes',
      unit: 'milliseconds of Init, median, nodejs24.x',
      bars: starts,
    },
    {
      file: 'performance-memory.svg',
      title: 'How much memory the process beside the function has',
      unit: 'megabytes, resident (RSS), once it is ready',
      bars: memory,
    },
  ]

  const quick = /^A quick run.*$/m.exec(evidence)?.[0]
  const targets = /^\d+ of \d+ targets are met/m.exec(evidence)?.[0]
  const machine = ['Processor', 'Memory', 'Date'].map(name => cell('Machine', name, '')).join(', ')
  const page = [
    '# Performance',
    '<!-- Written by bench/summary.ts from evidence/performance.md. -->',
    `What it costs, measured side by side in the local sandbox on AWS’s own runtime clients: ratios and differences carry over to Lambda, absolute times do not. In brackets: 95 % intervals. Where a figure differs by less than the same thing measured twice, there is no difference.${quick ? ` ${quick}` : ''}`,
    [
      '| Figure (`nodejs24.x`) | Measured | To compare it with, in the same run |',
      '|---|--:|---|',
      ...figures.map(cells => `| ${cells.join(' | ')} |`),
    ].join('\n'),
    ...pictures.map(({ file, title, bars: shown }) => `![${title}: ${inWords(shown)}.](${file})`),
    `${targets ?? 'No target was measured'}; [the evidence](evidence/performance.md) has each with the reason where it is missed, \`nodejs22.x\`, how far the machine itself varies, and how to run it: \`npm run bench\`. Machine: ${machine}.`,
  ].join('\n\n')
  return {
    'performance.md': `${page}\n`,
    ...Object.fromEntries(pictures.map(({ file, ...picture }) => [file, drawBars(picture)])),
  }
}

/** Writes them. */
export const writeSummary = (): void => {
  for (const [name, text] of Object.entries(summarize(readFileSync(EVIDENCE, 'utf8')))) {
    writeFileSync(new URL(`../docs/${name}`, import.meta.url), text)
  }
}

const ANSWERS = 'Answer latency and hold'
const START = "The layer's start"

type Read = { section: string; columns: readonly string[]; rows: Map<string, Record<string, string>> }

/** All tables of a page, each with the heading above it. Of two columns of one name the first is kept. */
const readTables = (markdown: string): Read[] => {
  const tables: Read[] = []
  let section = ''
  let table: Read | undefined
  for (const line of markdown.split('\n')) {
    if (line.startsWith('## ')) section = line.slice(3)
    if (!line.startsWith('| ') && !line.startsWith('|  |')) {
      table = undefined
      continue
    }
    const cells = line
      .slice(1, -1)
      .split('|')
      .map(text => text.trim())
    const [name = '', ...rest] = cells
    if (!table) {
      table = { section, columns: rest, rows: new Map() }
      tables.push(table)
    } else if (!name.startsWith('---')) {
      const row: Record<string, string> = {}
      for (const [index, column] of table.columns.entries()) row[column] ??= rest[index] ?? ''
      table.rows.set(name, row)
    }
  }
  return tables
}

export type Bar = { readonly label: string; readonly value: number; readonly isOurs: boolean }

/** A bar for each row of a section that fits and has a number, in the order of the table; what is measured twice once. */
const bars = (tables: readonly Read[], section: string, pattern: RegExp, column: string): Bar[] =>
  tables
    .filter(one => one.section === section && one.columns.includes(column))
    .flatMap(({ rows }) =>
      [...rows].flatMap(([row, cells]) => {
        const name = pattern.exec(row)?.[1]
        const value = Number.parseFloat((cells[column] ?? '').replaceAll(',', ''))
        if (name === undefined || /\bagain$/.test(name) || !Number.isFinite(value)) return []
        return [{ label: OURS[name] ?? OTHERS[name] ?? name, value, isOurs: name in OURS }]
      }),
    )

const inWords = (shown: readonly Bar[]) => shown.map(({ label, value }) => `${label} ${value}`).join('; ')

if (process.argv[1] === import.meta.filename) writeSummary()
