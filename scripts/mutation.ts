// Mutants of what everything rests on: the core, the hold and the spool. Each is to be noticed by a test, or to stand in
// test/mutation/survivors.json with the reason why none can notice it.
//
//   npm run mutation                   all files
//   npm run mutation -- task-stack     only these
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { basename } from 'node:path'

/** What is mutated, and the test files that look at it: jest loads each of them anew for each mutant. */
const tests: Record<string, readonly string[]> = {
  'src/middleware/task-stack.ts': ['unit/task-stack', 'unit/invocation'],
  'src/middleware/defer-input.ts': ['unit/defer-input', 'unit/invocation'],
  'src/middleware/deferred-task.ts': ['unit/invocation', 'unit/channels', 'mutation/stories'],
  'src/middleware/invocation.ts': ['unit/invocation', 'unit/channels', 'unit/tenant', 'mutation/stories'],
  'src/middleware/waits.ts': ['unit/waits', 'unit/invocation', 'unit/post-invoke', 'mutation/stories'],
  'src/middleware/companion.ts': ['unit/companion', 'mutation/stories'],
  'src/middleware/companion-pipe.ts': ['unit/companion-pipe', 'unit/companion'],
  'src/middleware/companion-process.ts': ['unit/companion-process', 'unit/companion', 'mutation/stories'],
  'src/hand-off/spool.ts': ['unit/spool', 'unit/hand-off-input'],
  'src/hand-off/spool-reader.ts': ['unit/spool', 'unit/runner'],
}

type Position = { line: number; column: number }
type Mutant = {
  mutatorName: string
  replacement: string
  status: string
  location: { start: Position; end: Position }
}

/** A mutant that lives: the line that it is in, what becomes of what, and why no test can notice. */
type Survivor = { file: string; line: string; from: string; to: string; why: string }

const survivors: Survivor[] = JSON.parse(readFileSync('test/mutation/survivors.json', 'utf8'))
const wanted = process.argv.slice(2)
const files = Object.keys(tests).filter(file => wanted.length === 0 || wanted.includes(basename(file, '.ts')))
if (files.length === 0)
  throw new Error(`Expected names among ${Object.keys(tests).join(', ')}, got ${wanted.join(' ')}`)

const textOf = (lines: readonly string[], { start, end }: Mutant['location']): string => {
  const text = lines.slice(start.line - 1, end.line)
  text[text.length - 1] = (text.at(-1) as string).slice(0, end.column - 1)
  text[0] = (text[0] as string).slice(start.column - 1)
  return text.join('\n')
}

const run = (file: string): Mutant[] => {
  const name = basename(file, '.ts')
  const report = `coverage/mutation-${name}.json`
  rmSync(report, { force: true })
  const { status } = spawnSync(
    process.execPath,
    ['node_modules/@stryker-mutator/core/bin/stryker.js', 'run', '--mutate', file],
    {
      stdio: 'inherit',
      env: {
        ...process.env,
        POST_INVOKE_TEST_TIMES: '0.1', // of made-up cases a tenth: they run for each mutant
        POST_INVOKE_MUTATION_NAME: name,
        POST_INVOKE_MUTATION_TESTS: (tests[file] as string[]).join(','),
      },
    },
  )
  if (status !== 0 || !existsSync(report)) throw new Error(`Stryker ended with status ${status}`)
  return JSON.parse(readFileSync(report, 'utf8')).files[file].mutants
}

let isWrong = false
const complain = (what: string) => {
  isWrong = true
  console.error(what)
}
const scores: string[] = []
for (const file of files) {
  const lines = readFileSync(file, 'utf8').split('\n')
  const mutants = run(file).filter(({ status }) => status !== 'Ignored' && status !== 'CompileError')
  const listed = survivors.filter(survivor => survivor.file === file)
  const met = new Set<Survivor>()
  let killed = 0
  let explained = 0
  for (const mutant of mutants) {
    if (mutant.status === 'Killed' || mutant.status === 'Timeout' || mutant.status === 'RuntimeError') {
      killed++
      continue
    }
    const { start } = mutant.location
    const line = (lines[start.line - 1] as string).trim()
    const from = textOf(lines, mutant.location)
    const reason = listed.find(other => other.line === line && other.from === from && other.to === mutant.replacement)
    if (reason) {
      met.add(reason)
      explained++
    } else {
      complain(`${file}:${start.line}, not noticed: ${JSON.stringify({ line, from, to: mutant.replacement })}`)
    }
  }
  for (const survivor of listed) {
    if (!met.has(survivor)) complain(`${file}, listed, and does not live: ${JSON.stringify(survivor)}`)
  }
  const score = ((100 * killed) / mutants.length).toFixed(1)
  scores.push(`${file}: ${mutants.length} mutants, ${killed} noticed (${score} %), ${explained} explained`)
}
console.log(scores.join('\n'))
process.exit(isWrong ? 1 : 0)
