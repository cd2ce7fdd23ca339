// What loading the middleware adds to a function that loads Middy anyway: time and memory, on both Node.js versions.
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { realClient } from './functions.ts'
import { type Control, digits, type Section, type Target, withUnit } from './page.ts'
import type { Settings } from './settings.ts'
import { difference, median, sideBySide } from './statistics.ts'

type Loaded = { imported: number; called: number; own: number }

const program = fileURLToPath(new URL('./programs/import.mjs', import.meta.url))
const run = promisify(execFile)

export const measureImports = async (folder: string, settings: Settings): Promise<Section> => {
  const core = import.meta.resolve('@middy/core')
  const ours = import.meta.resolve('middy-post-invoke')
  const loads = {
    'plain Middy': [core],
    'plain Middy again': [core],
    'an empty module after it': [core, new URL('./programs/empty.mjs', import.meta.url).href],
    'the middleware after it': [core, ours, 'call'],
    'a bundled function': ['', `file://${folder}/plain.mjs`],
    'a bundled function with it': ['', `file://${folder}/deferred.mjs`],
  }
  type Name = keyof typeof loads
  const nodes = { 'Node.js 22': realClient('ric3').options('').node ?? '', 'Node.js 24': process.execPath }
  const cases = Object.entries(nodes).flatMap(([node, path]) =>
    (Object.keys(loads) as Name[]).map(name => ({ node, path, name })),
  )
  const samples = await sideBySide(cases, settings.times(61, 9), async ({ path, name }) => {
    const { stdout } = await run(path, [program, ...loads[name]])
    return JSON.parse(stdout) as Loaded
  })

  const of = (node: string, name: Name, what: keyof Loaded) => {
    const found = cases.find(one => one.node === node && one.name === name)
    return (found && samples.get(found)?.map(one => one[what])) ?? []
  }
  const rows: string[][] = []
  const targets: Target[] = []
  const controls: Control[] = []
  for (const node of Object.keys(nodes)) {
    const time = median(of(node, 'the middleware after it', 'imported'))
    const memory = difference(of(node, 'the middleware after it', 'own'), of(node, 'plain Middy', 'own'))
    const noise = difference(of(node, 'plain Middy again', 'own'), of(node, 'plain Middy', 'own'))
    const bundled = (what: keyof Loaded) =>
      difference(of(node, 'a bundled function with it', what), of(node, 'a bundled function', what))
    const floor = `an empty module takes ${digits(median(of(node, 'an empty module after it', 'imported')))} ms`
    controls.push({ figure: `memory after the import of Middy: ${node}`, unit: 'MB', measured: noise })
    rows.push(
      [node, 'an empty module', digits(median(of(node, 'an empty module after it', 'imported'))), ''],
      [node, 'import', digits(time), withUnit(memory, 'MB')],
      [node, '… and postInvoke()', digits(median(of(node, 'the middleware after it', 'called'))), ''],
      [node, 'both, in a bundle', withUnit(bundled('imported'), 'ms'), withUnit(bundled('own'), 'MB')],
      [node, 'nothing (plain Middy against itself)', '', withUnit(noise, 'MB')],
    )
    targets.push(
      { figure: `import over plain Middy: ${node}`, limit: 3, unit: 'ms', measured: time, ifMissed: floor },
      {
        figure: `… its memory: ${node}`,
        limit: 1,
        unit: 'MB',
        measured: memory,
        ifMissed: `plain Middy against itself: ${digits(noise.value)} MB`,
      },
    )
  }
  return {
    title: 'Import',
    text: 'A fresh process for each measurement, outside Lambda: the time of `import` and of the first `postInvoke()` after Middy has been loaded, and what the process then has of memory of its own over one with Middy alone.',
    tables: [{ columns: ['', 'adds', 'time, ms', 'memory, MB'], rows }],
    targets,
    controls,
  }
}
