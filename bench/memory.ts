// Ten thousand invocations in one environment: what each process holds at first, and whether that stays.
import type { Sandbox } from 'middy-post-invoke/sandbox'
import { type FunctionSetup, startFunction } from './functions.ts'
import { digits, type Section, type Target } from './page.ts'
import { type Memory, memoryOf } from './processes.ts'
import type { Settings } from './settings.ts'
import { sideBySide } from './statistics.ts'

type Reading = { at: number; process: 'function' | 'companion'; memory: Memory }

export const measureMemory = async (folder: string, settings: Settings): Promise<Section> => {
  const setups: Record<string, FunctionSetup> = {
    'RIC 4, plain': { client: 'ric4', function: 'plain' },
    'RIC 4, gate': { client: 'ric4', function: 'deferred', companion: 'gate' },
    'RIC 4, internal': { client: 'ric4', function: 'deferred', companion: 'internal' },
    'RIC 4, layer': { client: 'ric4', function: 'deferred', companion: 'layer' },
    'RIC 3, plain': { client: 'ric3', function: 'plain' },
    'RIC 3, internal': { client: 'ric3', function: 'deferred', companion: 'internal' },
    'RIC 3, layer': { client: 'ric3', function: 'deferred', companion: 'layer' },
  }
  const names = Object.keys(setups)
  const invocations = settings.times(10_000, 500)
  const steps = [0, invocations / 10, invocations / 2, invocations]
  const readings = new Map<string, Reading[]>(names.map(name => [name, []]))
  const sandboxes = new Map<string, Sandbox>()
  const read = (at: number) => {
    for (const [name, sandbox] of sandboxes) {
      const all = readings.get(name)
      all?.push({ at, process: 'function', memory: memoryOf(sandbox.runtimePid as number) })
      for (const pid of Object.values(sandbox.extensionPids)) {
        all?.push({ at, process: 'companion', memory: memoryOf(pid) })
      }
    }
  }
  try {
    for (const name of names) sandboxes.set(name, await startFunction(folder, setups[name] as FunctionSetup))
    read(0)
    for (const [index, step] of steps.entries()) {
      if (index === 0) continue
      await sideBySide(names, step - (steps[index - 1] as number), name => sandboxes.get(name)?.invoke({ work: 1 }))
      read(step)
    }
  } finally {
    for (const sandbox of sandboxes.values()) await sandbox[Symbol.asyncDispose]()
  }

  const rows: string[][] = []
  const targets: Target[] = []
  for (const name of names) {
    for (const kind of ['function', 'companion'] as const) {
      const own = (readings.get(name) ?? []).filter(reading => reading.process === kind)
      const [first, last] = [own[0], own.at(-1)]
      if (!first || !last) continue
      rows.push([
        `${name}: ${kind === 'function' ? "the function's process" : 'the companion'}`,
        ...own.map(({ memory }) => digits(memory.own)),
        `${digits(first.memory.proportional)} → ${digits(last.memory.proportional)}`,
        `${digits(first.memory.resident)} → ${digits(last.memory.resident)}`,
      ])
      if (name.endsWith('plain')) continue
      const growth = last.memory.own - (own.at(-2)?.memory.own ?? Number.NaN)
      const plain = (readings.get(`${name.slice(0, 5)}, plain`) ?? []).map(({ memory }) => memory.own)
      targets.push({
        figure: `own memory, from ${steps.at(-2)?.toLocaleString('en')} to ${invocations.toLocaleString('en')} invocations: ${name}, ${kind}`,
        limit: 1,
        unit: 'MB',
        measured: growth,
        ifMissed: `plain Middy's grows by ${digits((plain.at(-1) ?? 0) - (plain.at(-2) ?? 0))} MB`,
      })
    }
  }
  return {
    title: 'Memory',
    text: 'MB of memory that is a process’ own (shared with no other), after Init and after so many invocations with one task each; and its proportional (PSS) and resident (RSS) memory, first and last.',
    tables: [
      {
        columns: ['Own memory, MB', ...steps.map(step => step.toLocaleString('en')), 'PSS, MB', 'RSS, MB'],
        rows,
      },
    ],
    targets,
  }
}
