// What loading the middleware adds to a function that loads Middy anyway: time and memory, on both Node.js versions.
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { build } from 'esbuild'
import { realClient } from './functions.ts'
import { type Control, digits, type Section, type Target, withUnit } from './page.ts'
import type { Settings } from './settings.ts'
import { difference, median, sideBySide } from './statistics.ts'

type Loaded = { imported: number; called: number; own: number }

const program = fileURLToPath(new URL('./programs/import.mjs', import.meta.url))
const run = promisify(execFile)

export const measureImports = async (folder: string, settings: Settings): Promise<Section> => {
  const core = import.meta.resolve('@middy/core')
  const entry = (name: string) => import.meta.resolve(`middy-post-invoke${name}`)
  const plain = `file://${folder}/plain.mjs`
  const modules = await bundleModules(folder)
  const loads: Record<string, readonly string[]> = {
    [MIDDY]: [plain],
    [UNBUNDLED_MIDDY]: [core],
    'plain Middy again': [plain],
    'an empty module': [plain, modules.empty, 'call'],
    [BUNDLED]: [plain, modules.main, 'call'],
    '… without a bundle': [core, entry(''), 'call'],
    ...Object.fromEntries(
      ['/handler', '/metrics', '/hand-off'].map(name => [`.${name}, without a bundle`, [core, entry(name)]]),
    ),
    'a function': ['', plain],
    'a function with it in its bundle': ['', `file://${folder}/imported.mjs`],
  }
  const names = Object.keys(loads)
  const nodes = { 'Node.js 22': realClient('ric3').options('').node ?? '', 'Node.js 24': process.execPath }
  const cases = Object.entries(nodes).flatMap(([node, path]) => names.map(name => ({ node, path, name })))
  const samples = await sideBySide(cases, settings.times(61, 9), async ({ path, name }) => {
    const { stdout } = await run(path, [program, ...(loads[name] ?? [])])
    return JSON.parse(stdout) as Loaded
  })

  const of = (node: string, name: string, what: keyof Loaded) => {
    const found = cases.find(one => one.node === node && one.name === name)
    return (found && samples.get(found)?.map(one => one[what])) ?? []
  }
  const rows: string[][] = []
  const targets: Target[] = []
  const controls: Control[] = []
  for (const node of Object.keys(nodes)) {
    const memory = (name: string) => {
      const baseline = loads[name]?.[0] === core ? UNBUNDLED_MIDDY : MIDDY
      return difference(of(node, name, 'own'), of(node, baseline, 'own'))
    }
    const time = (name: string, what: 'imported' | 'called' = 'imported') => median(of(node, name, what))
    controls.push({
      figure: `memory after the import of Middy: ${node}`,
      unit: 'MB',
      measured: memory('plain Middy again'),
    })
    for (const name of names) {
      const [before, timed, call] = loads[name] ?? []
      if (before === '' || timed === undefined) continue
      rows.push([
        node,
        name,
        digits(time(name)),
        call ? digits(time(name, 'called')) : '',
        withUnit(memory(name), 'MB'),
      ])
    }
    const added = difference(
      of(node, 'a function with it in its bundle', 'imported'),
      of(node, 'a function', 'imported'),
    )
    rows.push([node, 'a function with it in its bundle, over one without', withUnit(added, 'ms'), '', ''])
    const floor = `an empty module: ${digits(time('an empty module'))} ms; within the function's own bundle it is ${digits(added.value)} ms more than without it`
    targets.push(
      {
        figure: `import over plain Middy, bundled and minified: ${node}`,
        limit: 2.5,
        unit: 'ms',
        measured: time(BUNDLED),
        ifMissed: floor,
      },
      {
        figure: `the first postInvoke(), with no companion to start: ${node}`,
        limit: 0.7,
        unit: 'ms',
        measured: time(BUNDLED, 'called'),
        ifMissed: `a function that does nothing: ${digits(time('an empty module', 'called'))} ms`,
      },
    )
  }
  return {
    title: 'Import',
    text: 'A fresh process for each measurement, outside Lambda: the time of `import` and of the first `postInvoke()` after Middy has been loaded, and what the process then has of memory of its own over one with Middy alone. The middleware is one minified file, where it is not said to be without a bundle.',
    tables: [{ columns: ['', 'after Middy', 'import, ms', 'postInvoke(), ms', 'memory, MB'], rows }],
    targets,
    controls,
  }
}

const MIDDY = 'plain Middy'
const UNBUNDLED_MIDDY = 'plain Middy, without a bundle'
const BUNDLED = 'the middleware'

/** Each a minified file of its own. */
const bundleModules = async (folder: string): Promise<{ main: string; empty: string }> => {
  const sources = {
    main: "export { default, defer } from 'middy-post-invoke'",
    empty: 'export default () => {}',
  }
  for (const [name, contents] of Object.entries(sources)) {
    await build({
      stdin: { contents, resolveDir: fileURLToPath(new URL('.', import.meta.url)) },
      outfile: join(folder, `module-${name}.mjs`),
      bundle: true,
      minify: true,
      format: 'esm',
      platform: 'node',
      target: 'node22',
    })
  }
  return { main: `file://${folder}/module-main.mjs`, empty: `file://${folder}/module-empty.mjs` }
}
