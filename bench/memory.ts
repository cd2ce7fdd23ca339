// Ten thousand invocations in one environment: what each process holds at first, whether that stays, and what an invocation
// costs the companion.
import { spawn } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Sandbox } from 'middy-post-invoke/sandbox'
import { bareCompanion, bashExtension, type FunctionSetup, layerOf, startFunction } from './functions.ts'
import { digits, type Section, type Target } from './page.ts'
import { childOf, cpuTimeOf, type Memory, memoryOf } from './processes.ts'
import type { Settings } from './settings.ts'
import { sideBySide } from './statistics.ts'

/** Registers, asks for events, and does nothing with them. */
const BARE = 'RIC 4, beside an extension in bare bash'

/** Our function, and a companion that does nothing but what it is told. */
const BARE_COMPANION = 'RIC 4, bare companion'

const collector = fileURLToPath(new URL('./programs/collect-garbage.cjs', import.meta.url))

/**
 * V8 enlarges its young generation by megabytes, at moments of its own, and collects the old one when it likes: of two equal
 * functions one has grown by the end and the other has not. With the young one at its least size and garbage collected before
 * each reading, what grows is what is kept.
 */
const NODE_OPTIONS = `--max-semi-space-size=1 --expose-gc --require=${collector}`

/** How long the functions are given to collect their garbage. */
const COLLECTION_MS = 2_000

type Reading = { at: number; process: 'function' | 'companion'; memory: Memory; cpu: number }

export const measureMemory = async (folder: string, settings: Settings): Promise<Section> => {
  const setups: Record<string, FunctionSetup> = {
    'RIC 4, plain': { client: 'ric4', function: 'plain' },
    'RIC 4, again': { client: 'ric4', function: 'plain' },
    'RIC 4, gate': { client: 'ric4', function: 'deferred', companion: 'gate' },
    'RIC 4, internal': { client: 'ric4', function: 'deferred', companion: 'internal' },
    'RIC 4, layer': { client: 'ric4', function: 'deferred', companion: 'layer' },
    [BARE_COMPANION]: {
      client: 'ric4',
      function: 'deferred',
      companion: 'layer',
      layers: [layerOf(folder, bareCompanion)],
    },
    [BARE]: { client: 'ric4', function: 'plain', layers: [layerOf(folder, bashExtension)] },
    'RIC 3, plain': { client: 'ric3', function: 'plain' },
    'RIC 3, again': { client: 'ric3', function: 'plain' },
    'RIC 3, internal': { client: 'ric3', function: 'deferred', companion: 'internal' },
    'RIC 3, layer': { client: 'ric3', function: 'deferred', companion: 'layer' },
  }
  const names = Object.keys(setups)
  const invocations = settings.times(10_000, 500)
  const idle = invocations / 10
  const steps = [0, invocations / 10, invocations / 2, invocations]
  const readings = new Map<string, Reading[]>(names.map(name => [name, []]))
  const sandboxes = new Map<string, Sandbox>()
  const read = async (at: number) => {
    for (const { runtimePid } of sandboxes.values()) process.kill(runtimePid as number, 'SIGUSR2')
    await sleep(COLLECTION_MS)
    for (const [name, sandbox] of sandboxes) {
      const pid = sandbox.runtimePid as number
      const companions =
        setups[name]?.companion === 'internal' ? [childOf(pid) as number] : Object.values(sandbox.extensionPids)
      for (const [process, pids] of [
        ['function', [pid]],
        ['companion', companions],
      ] as const) {
        for (const one of pids) readings.get(name)?.push({ at, process, memory: memoryOf(one), cpu: cpuTimeOf(one) })
      }
    }
  }
  let bash: Memory
  try {
    for (const name of names) {
      const setup = { ...(setups[name] as FunctionSetup), nodeOptions: NODE_OPTIONS }
      sandboxes.set(name, await startFunction(folder, setup))
    }
    await read(0)
    bash = await idleBash()
    for (const [index, step] of steps.entries()) {
      if (index === 0) continue
      await sideBySide(names, step - (steps[index - 1] as number), name => sandboxes.get(name)?.invoke({ work: 1 }))
      await read(step)
    }
    await sideBySide(names, idle, name => sandboxes.get(name)?.invoke({ work: 0 }))
    await read(invocations + idle)
  } finally {
    for (const sandbox of sandboxes.values()) await sandbox[Symbol.asyncDispose]()
  }

  const of = (name: string, kind: Reading['process']) =>
    (readings.get(name) ?? []).filter(one => one.process === kind && one.at <= invocations)
  /** Of its companion, in milliseconds an invocation with or without a task. */
  const cpu = (name: string, tasks: 0 | 1) => {
    const all = (readings.get(name) ?? []).filter(one => one.process === 'companion')
    const [first, before, last] = [all[0], all.at(-2), all.at(-1)].map(one => one?.cpu ?? Number.NaN) as [
      number,
      number,
      number,
    ]
    return tasks === 1 ? (before - first) / invocations : (last - before) / idle
  }
  /** In the second half, when caches are full and code is compiled. */
  const growth = (name: string) => {
    const [before, last] = of(name, 'function').slice(-2)
    return (last?.memory.own ?? Number.NaN) - (before?.memory.own ?? Number.NaN)
  }
  const most = invocations.toLocaleString('en')
  const half = steps.at(-2)?.toLocaleString('en')
  const rows: string[][] = []
  const costs: string[][] = []
  const targets: Target[] = []
  for (const name of names) {
    for (const kind of ['function', 'companion'] as const) {
      const own = of(name, kind)
      const [first, last] = [own[0], own.at(-1)]
      if (!first || !last) continue
      rows.push([
        `${name}: ${kind === 'function' ? "the function's process" : 'the companion'}`,
        ...own.map(({ memory }) => digits(memory.own)),
        `${digits(first.memory.proportional)} → ${digits(last.memory.proportional)}`,
        `${digits(first.memory.resident)} → ${digits(last.memory.resident)}`,
      ])
      if (kind === 'function') continue
      costs.push([name, digits(cpu(name, 0)), digits(cpu(name, 1))])
      if (name === BARE || name === BARE_COMPANION) continue
      const floor = `a bash that only waits has ${digits(bash.resident)} and ${digits(bash.proportional)} MB`
      for (const [when, { memory }] of [
        ['at rest', first],
        [`after ${most} invocations`, last],
      ] as const) {
        const figure = `the companion's memory ${when}: ${name}`
        targets.push(
          { figure: `${figure}, RSS`, limit: 4, unit: 'MB', measured: memory.resident, ifMissed: floor },
          { figure: `${figure}, PSS`, limit: 1, unit: 'MB', measured: memory.proportional, ifMissed: floor },
        )
      }
      const before = own.at(-2) ?? first
      targets.push(
        {
          figure: `… flat: its RSS from ${half} to ${most} invocations: ${name}`,
          limit: 0.1,
          unit: 'MB',
          measured: last.memory.resident - before.memory.resident,
          ifMissed: floor,
        },
        ...([0, 1] as const).map(
          (tasks): Target => ({
            figure: `the companion's time on a processor, an invocation with ${tasks === 0 ? 'no task' : '1 task'}: ${name}`,
            limit: 0.5,
            unit: 'ms',
            measured: cpu(name, tasks),
            ifMissed: `an extension in bash that only asks for events takes ${digits(cpu(BARE, 0))} ms, a bare companion ${digits(cpu(BARE_COMPANION, tasks))} ms`,
          }),
        ),
      )
    }
    const client = name.slice(0, 5)
    if (!setups[name]?.companion || name === BARE_COMPANION) continue
    const plain = growth(`${client}, plain`)
    targets.push({
      figure: `own memory of the function's process from ${half} to ${most} invocations, over plain Middy's growth: ${name}`,
      limit: 0.5,
      unit: 'MB',
      measured: growth(name) - plain,
      ifMissed: `plain Middy's grows by ${digits(plain)} MB, and that of another environment like it by ${digits(growth(`${client}, again`))} MB`,
    })
  }
  return {
    title: 'Memory',
    text: 'MB of memory that is a process’ own (shared with no other), after Init and after so many invocations with one task each; and its proportional (PSS) and resident (RSS) memory, first and last. PSS divides what is shared among all processes that share it, so it depends on how many of a kind run on the machine. V8 enlarges its young generation by megabytes at moments of its own, and collects the old one when it likes. So in every function the young one has its least size (`--max-semi-space-size=1`), and all garbage is collected before each reading: what grows is what is kept.',
    tables: [
      {
        columns: ['Own memory, MB', ...steps.map(step => step.toLocaleString('en')), 'PSS, MB', 'RSS, MB'],
        rows,
      },
      { columns: ["The companion's processor, ms an invocation", 'no task', '1 task'], rows: costs },
    ],
    targets,
  }
}

/** The floor for a companion in bash. */
const idleBash = async (): Promise<Memory> => {
  const child = spawn('/bin/bash', ['--norc', '-p', '-c', 'read -r _'], {
    env: {},
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  await sleep(100)
  const memory = memoryOf(child.pid as number)
  child.stdin.end()
  return memory
}
