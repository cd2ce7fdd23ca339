// What a companion adds to Init, with everything that starts then: the layer's process beside the runtime, on AWS's own
// runtime clients.
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { SandboxEvent } from 'middy-post-invoke/sandbox'
import { type FunctionSetup, layerOf, nodeExtension, startFunction } from './functions.ts'
import { digits, type Section, type Target, withUnit } from './page.ts'
import { memoryOf } from './processes.ts'
import type { Settings } from './settings.ts'
import { difference, median, sideBySide } from './statistics.ts'

type Init = { whole: number; registered: number; runtime: number; own: number }

export const measureColdStart = async (folder: string, settings: Settings): Promise<Section> => {
  const setups: Record<string, FunctionSetup> = {
    'RIC 4, plain': { client: 'ric4', function: 'plain' },
    'RIC 4, again': { client: 'ric4', function: 'plain' },
    'RIC 4, the middleware imported': { client: 'ric4', function: 'imported' },
    'RIC 4, gate': { client: 'ric4', function: 'deferred', companion: 'gate' },
    'RIC 4, internal': { client: 'ric4', function: 'deferred', companion: 'internal' },
    'RIC 4, layer': { client: 'ric4', function: 'deferred', companion: 'layer' },
    'RIC 4, plain beside an extension in Node.js': {
      client: 'ric4',
      function: 'plain',
      layers: [layerOf(folder, nodeExtension)],
    },
    ...Object.fromEntries(
      settings.peerExtensions.map(peer => [
        `RIC 4, plain beside ${peer.name}`,
        { client: 'ric4', function: 'plain', layers: [layerOf(folder, peer)] } as const,
      ]),
    ),
    'RIC 3, plain': { client: 'ric3', function: 'plain' },
    'RIC 3, again': { client: 'ric3', function: 'plain' },
    'RIC 3, the middleware imported': { client: 'ric3', function: 'imported' },
    'RIC 3, internal': { client: 'ric3', function: 'deferred', companion: 'internal' },
    'RIC 3, layer': { client: 'ric3', function: 'deferred', companion: 'layer' },
  }
  const names = Object.keys(setups)
  const samples = await sideBySide(names, settings.times(41, 5), name => init(folder, setups[name] as FunctionSetup))

  const bash = await startBash(settings.times(41, 5))

  const of = (name: string, what: keyof Init) => (samples.get(name) ?? []).map(one => one[what])
  const added = (name: string, what: keyof Init) => difference(of(name, what), of(`${name.slice(0, 5)}, plain`, what))
  /** What any other way would cost, too. */
  const floors = {
    internal: `to start a bash and hear a word from it: ${digits(median(bash))} ms`,
    layer: `nothing is started there: it is the import`,
  }
  const targets: Target[] = []
  for (const [name, limit] of [
    ['layer', 2],
    ['internal', 8],
  ] as const) {
    for (const client of ['RIC 4', 'RIC 3']) {
      const own = (other: string) => digits(added(`${client}, ${other}`, 'runtime').value)
      targets.push({
        figure: `added to the runtime's own init: ${client}, ${name}`,
        limit,
        unit: 'ms',
        measured: added(`${client}, ${name}`, 'runtime'),
        ifMissed: `${floors[name]}; the import alone: ${own('the middleware imported')} ms; plain Middy against itself: ${own('again')} ms`,
      })
    }
  }
  return {
    title: 'Cold start',
    text: "Init in the sandbox: from its begin to its end; the part before the runtime is started, which is the registration of the layer; the runtime's own part, from its start until it asks for its first invocation; and the memory of the function's process then.",
    tables: [
      {
        columns: [
          '',
          'Init, ms',
          'over plain',
          'before the runtime, ms',
          "runtime's, ms",
          'over plain',
          'own memory, MB',
          'over plain',
        ],
        rows: names.map(name => [
          name,
          digits(median(of(name, 'whole'))),
          withUnit(added(name, 'whole'), 'ms'),
          digits(median(of(name, 'registered'))),
          digits(median(of(name, 'runtime'))),
          withUnit(added(name, 'runtime'), 'ms'),
          digits(median(of(name, 'own'))),
          withUnit(added(name, 'own'), 'MB'),
        ]),
      },
    ],
    targets,
    controls: ['RIC 4', 'RIC 3'].map(client => ({
      figure: `the runtime's own init: ${client}, plain`,
      unit: 'ms',
      measured: added(`${client}, again`, 'runtime'),
    })),
  }
}

/** Milliseconds until a fresh process of Node.js has heard from a bash. */
const startBash = async (times: number): Promise<number[]> => {
  const samples: number[] = []
  for (let round = 0; round < times; round++) {
    const { stdout } = await promisify(execFile)(process.execPath, [program])
    samples.push(Number(stdout))
  }
  return samples
}

const program = fileURLToPath(new URL('./programs/start-bash.mjs', import.meta.url))

const init = async (folder: string, setup: FunctionSetup): Promise<Init> => {
  const at = new Map<SandboxEvent['type'], number>()
  await using sandbox = await startFunction(folder, setup, event => {
    if (!at.has(event.type)) at.set(event.type, event.at)
  })
  const time = (type: SandboxEvent['type']) => at.get(type) as number
  return {
    whole: time('init-ended') - time('init-started'),
    registered: time('runtime-started') - time('init-started'),
    runtime: time('runtime-next') - time('runtime-started'),
    own: memoryOf(sandbox.runtimePid as number).own,
  }
}
