// docs/reliability.md: what the rows of docs/evidence/reliability.md come to, as one matrix of causes and companions.
import type { Row } from './fault-table.ts'

export type Table = { readonly title: string; readonly rows: readonly Row[] }

const COMPANIONS = ['layer', 'internal extension', 'gate'] as const

const UNHARMED = 'unharmed'

/** @param soak - What became of tasks under random faults: the last row of its table. */
export const summarizeFaults = (tables: readonly Table[], soak: Readonly<Record<string, string>>): string => {
  const rows = tables.flatMap(table => table.rows)
  const causes = new Set(rows.map(({ injected }) => injected)).size
  const lines = tables.flatMap(({ title, rows: own }) => {
    const groups = groupByVerdicts(own)
    return groups.map((group, index) => {
      const where = index === 0 ? `[${title}](evidence/reliability.md#${anchorOf(title)})` : ''
      return `| ${where} | ${nameAll(group, groups.length > 1)} | ${group.verdicts.join(' | ')} |`
    })
  })
  return `# Reliability

<!-- Written by the tests of faults from evidence/reliability.md. -->

What happens when something goes wrong. ${causes} faults are injected by tests into functions on AWS’s own Node.js runtime clients, with each companion: [${rows.length} rows](evidence/reliability.md) say what the caller got, what became of the tasks, what was logged, and how the next invocation fared.

| Verdict | Meaning |
|---|---|
| unharmed | The caller has its answer, every task ran or was reported, and the next invocation is as ever. |
| late | Nothing could hold the environment. Tasks were awaited before the answer, and a warning says so. |
| lost, named | Tasks were lost, and the log names them. |
| unheld | Tasks went on only when the environment was thawed for the next invocation. |
| held once | One hold ended only 100 ms before the function’s deadline. |
| as without | The fault disturbs Lambda itself: a function without this package fares no better. |
| – | It does not apply there. |

| Where | What goes wrong | Layer | Internal extension | Gate |
|---|---|---|---|---|
${lines.join('\n')}

Under faults at random, in ${count(soak.Invocations)} invocations with ${count(soak.Tasks)} tasks: ${soak['Answers missing']} answers missing, ${soak['Lost in silence']} tasks lost in silence, ${soak.Hangs} hangs. A process with the gate that is killed from outside takes its tasks along without a name: nobody is left to write it ([soak](evidence/reliability.md#soak)).
`
}

const NONE = '–'

const count = (cell = '0') => Number(cell).toLocaleString('en')

type Group = { readonly names: readonly string[]; readonly verdicts: readonly string[] }

/** Causes with the same verdicts stand together, and those that do no harm come last. */
const groupByVerdicts = (rows: readonly Row[]): Group[] => {
  const causes = [...Map.groupBy(rows, ({ injected }) => injected)].map(([name, own]) => ({
    name,
    verdicts: COMPANIONS.map(companion => {
      const found = own.filter(row => row.companion === companion).map(({ verdict }) => verdict.split(':')[0] as string)
      return [...new Set(found)].join(' or ') || NONE
    }),
  }))
  const groups = [...Map.groupBy(causes, ({ verdicts }) => harmOf(verdicts))].map(([, all]) => ({
    names: all.map(({ name }) => name),
    verdicts: all[0]?.verdicts ?? [],
  }))
  return groups.sort((one, other) => Number(isUnharmed(one)) - Number(isUnharmed(other)))
}

/** Where nothing is harmed it does not matter where a fault cannot happen. */
const harmOf = (verdicts: readonly string[]) =>
  verdicts.every(verdict => verdict === UNHARMED || verdict === NONE) ? UNHARMED : verdicts.join()

const isUnharmed = ({ verdicts }: Group) => harmOf(verdicts) === UNHARMED

const nameAll = (group: Group, hasOthers: boolean): string => {
  const { names } = group
  const [first = '', ...rest] = names
  if (!isUnharmed(group) || rest.length === 0) return [first, ...rest.map(lower)].join('; ')
  return `${names.length} ${hasOthers ? 'other faults' : 'faults'}, such as: ${lower(first)}`
}

/** The first word, unless it is a name. */
const lower = (text: string) => text.replace(/^(A|An|The|Another|Somebody|Half|Ten)\b/, word => word.toLowerCase())

const anchorOf = (title: string) => title.toLowerCase().replaceAll(' ', '-')
