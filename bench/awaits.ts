// What it costs the function's own code that Node.js tracks its promises. The package has it do so only where something has
// to find the invocation in which it is called.
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { realClient } from './functions.ts'
import { digits, type Section, withUnit } from './page.ts'
import type { Settings } from './settings.ts'
import { median, ratio, sideBySide } from './statistics.ts'

const program = fileURLToPath(new URL('./programs/awaits.mjs', import.meta.url))

type Case = { node: string; path: string; isTracked: boolean }

export const measureAwaits = async (settings: Settings): Promise<Section> => {
  const nodes = { 'Node.js 22': realClient('ric3').options('').node ?? '', 'Node.js 24': process.execPath }
  const cases = Object.entries(nodes).flatMap(([node, path]): Case[] =>
    [false, true].map(isTracked => ({ node, path, isTracked })),
  )
  const samples = await sideBySide(cases, settings.times(30, 5), measure)
  const of = (node: string, tracked: boolean) => {
    const found = cases.find(one => one.node === node && one.isTracked === tracked)
    return (found && samples.get(found)) ?? []
  }
  return {
    title: 'Awaits in the function’s own code',
    text: 'Microseconds for each of the first hundred awaits of a process, the call of an async function included. On `nodejs22.x` a bundle has no AsyncLocalStorage of ours in use unless it has `defer()`, `waitUntil()`, `withExecutionContext()` or `handOff()` by import, or the option `waitUntil`.',
    tables: [
      {
        columns: ['', 'no AsyncLocalStorage in use, µs', 'one in use, µs', 'ratio'],
        rows: Object.keys(nodes).map(node => [
          node,
          digits(median(of(node, false))),
          digits(median(of(node, true))),
          withUnit(ratio(of(node, true), of(node, false)), '×'),
        ]),
      },
    ],
    targets: [],
  }
}

const measure = async ({ path, isTracked }: Case): Promise<number> => {
  const { stdout } = await promisify(execFile)(path, [program, isTracked ? 'tracked' : 'not'])
  return Number(stdout)
}
