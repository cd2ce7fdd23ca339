// Measures everything, one section after the other, and writes docs/evidence/performance.md and what docs/performance.md
// says of it. See settings.ts for what can be asked for.
import { writeFileSync } from 'node:fs'
import { measureAwaits } from './awaits.ts'
import { measureColdStart } from './cold-start.ts'
import { measureExtensionStart } from './extension-start.ts'
import { bundleFunctions } from './functions.ts'
import { measureImports } from './imports.ts'
import { measureLatency } from './latency.ts'
import { measureLongWork } from './long-work.ts'
import { describeMachine } from './machine.ts'
import { measureMemory } from './memory.ts'
import { controlsTable, isMet, type Section, tableToMarkdown, tableToText, targetsTable, toMarkdown } from './page.ts'
import { readSettings, usage } from './settings.ts'
import { measureSize } from './size.ts'
import { writeSummary } from './summary.ts'
import { measureTasks } from './tasks.ts'

const settings = readSettings(process.argv.slice(2))
const machine = describeMachine()
const folder = await bundleFunctions()

const measurements: Record<string, () => Promise<Section> | Section> = {
  latency: () => measureLatency(folder, settings),
  'long-work': () => measureLongWork(folder, settings),
  'extension-start': () => measureExtensionStart(settings),
  'cold-start': () => measureColdStart(folder, settings),
  imports: () => measureImports(folder, settings),
  size: () => measureSize(),
  tasks: () => measureTasks(settings),
  awaits: () => measureAwaits(settings),
  memory: () => measureMemory(folder, settings),
}
const unknown = settings.only.filter(name => !measurements[name])
if (unknown.length > 0) throw new TypeError(`Expected sections that there are, got ${unknown.join(', ')}.\n\n${usage}`)

const startedAt = performance.now()
const sections: Section[] = []
for (const [name, measure] of Object.entries(measurements)) {
  if (settings.only.length > 0 && !settings.only.includes(name)) continue
  console.log(`=== ${name}\n`)
  const section = await measure()
  sections.push(section)
  for (const table of section.tables) console.log(`${tableToText(table)}\n`)
}
const targets = sections.flatMap(section => section.targets)
const controls = sections.flatMap(section => section.controls ?? [])
console.log(`=== noise\n\n${tableToText(controlsTable(controls))}\n`)
console.log(`=== targets\n\n${tableToText(targetsTable(targets))}`)
const minutes = ((performance.now() - startedAt) / 60_000).toFixed(1)
const summary = `${targets.filter(isMet).length} of ${targets.length} targets are met.`
console.log(`\n${summary} It took ${minutes} minutes.`)

if (settings.write) {
  const page = [
    '# Performance: the evidence',
    'What a reader decides by stands in [performance](../performance.md).',
    ...(settings.quick ? ['A quick run, of a few rounds: ratios are rough.'] : []),
    'Written by `npm run bench` on a clean checkout, after `npm ci`, `bash scripts/install-test-runtimes.sh` and `source .cache/test-runtimes.env`. Figures are medians of measurements taken side by side in one run: what is compared takes turns, in another order each round, so that whatever slows the machine slows all of it. Everything runs in the sandbox, on AWS’s own Node.js runtime clients (RIC).',
    '## Targets',
    `${summary} Where one is missed, the last column says what the same costs at the least, measured in the same run.`,
    tableToMarkdown(targetsTable(targets)),
    '## Noise',
    'What should be 1.00, or nothing: the same program measured twice, side by side with all others. A difference no larger than these is none.',
    tableToMarkdown(controlsTable(controls)),
    ...sections.map(toMarkdown),
    '## Machine',
    tableToMarkdown(machine),
  ]
  writeFileSync(new URL('../docs/evidence/performance.md', import.meta.url), `${page.join('\n\n')}\n`)
  writeSummary()
}
