// The task stack alone: many tasks in one invocation, against a loop and against libraries that limit concurrency.
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { realClient } from './functions.ts'
import { digits, type Section, type Table, type Target } from './page.ts'
import type { Settings } from './settings.ts'
import { median, ratio } from './statistics.ts'

type Timed = { contender: string; count: number; nanoseconds: number }
type Line = Timed | { contender: string; bytes: number }

const OURS = 'middy-post-invoke'
const SNAPSHOT = 'loop with a snapshot each'
const COUNTS = [1, 10, 100, 1_000, 10_000, 100_000]
const MANY = 1_000

const program = fileURLToPath(new URL('./programs/tasks.mjs', import.meta.url))

export const measureTasks = async (settings: Settings): Promise<Section> => {
  const tables: Table[] = []
  const targets: Target[] = []
  const nodes = { 'Node.js 22': realClient('ric3').options('').node ?? '', 'Node.js 24': process.execPath }
  for (const [node, path] of Object.entries(nodes)) {
    const { stdout } = await promisify(execFile)(path, ['--expose-gc', program, String(settings.times(9, 2))])
    const lines = stdout
      .trim()
      .split('\n')
      .map((line): Line => JSON.parse(line))
    const timed = lines.filter(line => 'nanoseconds' in line)
    const contenders = [...new Set(timed.map(({ contender }) => contender))]
    const of = (contender: string, count: number) =>
      timed.filter(line => line.contender === contender && line.count === count).map(({ nanoseconds }) => nanoseconds)
    const empty = median(of(OURS, 0))
    /** Of one task. */
    const net = (contender: string, count: number) =>
      of(contender, count).map(all => (all - (contender === OURS ? empty : 0)) / count)

    tables.push({
      columns: [`${node}: ns per task`, ...COUNTS.map(count => count.toLocaleString('en')), 'bytes per task'],
      rows: contenders.map(contender => {
        const memory = lines.find(line => 'bytes' in line && line.contender === contender) as { bytes: number }
        return [contender, ...COUNTS.map(count => digits(median(net(contender, count)))), digits(memory.bytes)]
      }),
    })
    targets.push({
      figure: `${MANY.toLocaleString('en')} tasks over a loop with a snapshot each: ${node}`,
      limit: 1,
      unit: '×',
      measured: ratio(net(OURS, MANY), net(SNAPSHOT, MANY)),
      ifMissed: `one such loop takes ${digits(median(net(SNAPSHOT, MANY)))} ns a task, a bare promise loop ${digits(median(net('bare promise loop', MANY)))} ns`,
    })
  }
  return {
    title: 'Many tasks in one invocation',
    text: 'Nanoseconds from `defer` to the end of a task that does nothing, in one process; an invocation without tasks has been taken off. The loop with a snapshot does what nobody who keeps the async context of a task can leave out: one `AsyncLocalStorage.snapshot()` each.',
    tables,
    targets,
  }
}
