// How long the caller waits, and how long the environment stays busy after the answer: many environments side by side,
// one invocation at a time, each in turn.
import type { InvocationReport, Sandbox } from 'middy-post-invoke/sandbox'
import { type FunctionSetup, layerOf, nodeExtension, startFunction } from './functions.ts'
import { type Control, digits, type Section, type Target, withUnit } from './page.ts'
import { drawBars } from './picture.ts'
import type { Settings } from './settings.ts'
import { difference, median, quantile, ratio, type Samples, sideBySide } from './statistics.ts'

const WORK_MS = 5

/** `again` is the same as `plain`: how far the two differ is what this machine cannot tell apart. */
type Name = string

type Measured = { answered: number; heldAfterAnswer: number; heldAfterWork?: number }

type Case = { client: 'ric3' | 'ric4'; name: Name; tasks: 0 | 1; setup: FunctionSetup }

const compared = [
  ['ric4', 'gate'],
  ['ric4', 'internal'],
  ['ric4', 'layer'],
  ['ric3', 'internal'],
  ['ric3', 'layer'],
] as const

export const measureLatency = async (folder: string, settings: Settings): Promise<Section> => {
  const cases = listCases(folder, settings)
  const measured = new Map<Case, Measured[]>(cases.map(one => [one, []]))
  // One process differs from the next one that runs the same code, for as long as it lives. So there are several.
  for (let batch = 0; batch < settings.times(6, 2); batch++) {
    const samples = await measureBatch(folder, cases, settings.times(60, 20), settings.times(250, 40))
    for (const [one, some] of samples) measured.get(one)?.push(...some)
  }

  const samplesOf = (client: string, name: Name, tasks: 0 | 1, what: keyof Measured): Samples => {
    const found = cases.find(one => one.client === client && one.name === name && one.tasks === tasks)
    return found ? (measured.get(found) ?? []).flatMap(one => one[what] ?? []) : []
  }
  const answered = (client: string, name: Name, tasks: 0 | 1) => samplesOf(client, name, tasks, 'answered')

  const answers = cases.map(({ client, name, tasks }) => {
    const samples = answered(client, name, tasks)
    const plain = answered(client, 'plain', tasks)
    return [
      label(client, name, tasks),
      digits(median(samples)),
      withUnit(ratio(samples, plain), '×'),
      digits(quantile(samples, 0.99)),
      withUnit(ratio(samples, plain, 0.99), '×'),
    ]
  })
  const holds = cases.map(({ client, name, tasks }) => {
    const samples = samplesOf(client, name, tasks, 'heldAfterAnswer')
    const work = samplesOf(client, name, tasks, 'heldAfterWork')
    return [
      label(client, name, tasks),
      digits(median(samples)),
      tasks === 0 ? withUnit(difference(samples, samplesOf(client, 'plain', 0, 'heldAfterAnswer')), 'ms') : '',
      tasks === 1 && Number.isFinite(median(work)) ? digits(median(work)) : '',
    ]
  })

  /** What ours does on top, while the caller waits. */
  const workBeforeTheAnswer = (name: Name, tasks: 0 | 1) => {
    if (tasks === 0)
      return name === 'gate'
        ? 'the invocation is opened and followed'
        : 'the invocation is opened and followed, and an extension wakes up beside it'
    if (name !== 'layer') return 'the task is checked, and keeps the async context of its call'
    return 'the task is named to the layer before the answer leaves, or nobody could name it if the process were killed'
  }

  /** What others cost that do less than ours: nobody is faster than they are. */
  const floor = (client: string, name: Name, tasks: 0 | 1, share: number) => {
    const over = (other: Name) =>
      digits(ratio(answered(client, other, tasks), answered(client, 'plain', tasks), share).value)
    const least = name === 'gate' ? 'hooks that do nothing' : 'beside an idle extension'
    return `${least}: ${over(least)}; plain Middy against itself: ${over('again')}; ours: ${workBeforeTheAnswer(name, tasks)}`
  }
  const targets = compared.flatMap(([client, name]): Target[] => {
    const held = (other: Name) => samplesOf(client, other, 0, 'heldAfterAnswer')
    return [
      ...([0, 1] as const).flatMap((tasks): Target[] => [
        {
          figure: `answer latency over plain Middy: ${label(client, name, tasks)}`,
          limit: name === 'gate' ? 1.02 : 1.05,
          unit: '×',
          measured: ratio(answered(client, name, tasks), answered(client, 'plain', tasks)),
          ifMissed: floor(client, name, tasks, 0.5),
        },
        {
          figure: `… its p99: ${label(client, name, tasks)}`,
          limit: 1.1,
          unit: '×',
          measured: ratio(answered(client, name, tasks), answered(client, 'plain', tasks), 0.99),
          ifMissed: floor(client, name, tasks, 0.99),
        },
      ]),
      {
        figure: `added to the release, no tasks: ${label(client, name, 0)}`,
        limit: { gate: 0.1, internal: 0.5, layer: 1 }[name],
        unit: 'ms',
        measured: difference(held(name), held('plain')),
        ifMissed: `beside an idle extension: ${digits(difference(held('beside an idle extension'), held('plain')).value)} ms`,
      },
      {
        figure: `last task's end → release: ${label(client, name, 1)}`,
        limit: 0.5,
        unit: 'ms',
        measured: median(samplesOf(client, name, 1, 'heldAfterWork')),
        ifMissed: `plain Middy, from its answer to its release: ${digits(median(held('plain')))} ms`,
      },
    ]
  })
  const controls = (['ric4', 'ric3'] as const).flatMap(client =>
    ([0, 1] as const).flatMap((tasks): Control[] => {
      const [again, plain] = [answered(client, 'again', tasks), answered(client, 'plain', tasks)]
      const figure = `answer latency: ${label(client, 'plain', tasks)}`
      return [
        { figure, unit: '×', measured: ratio(again, plain) },
        { figure: `${figure}, p99`, unit: '×', measured: ratio(again, plain, 0.99) },
      ]
    }),
  )
  const bars = cases
    .filter(({ client, tasks }) => client === 'ric4' && tasks === 1)
    .map(({ client, name, tasks }) => ({ label: name, value: median(answered(client, name, tasks)) }))
  const title = `The caller's wait for an answer with ${WORK_MS} ms of work behind it, in milliseconds: medians, on RIC 4.`
  return {
    title: 'Answer latency and hold',
    text: `The caller's wait, from INVOKE until the answer has been read, and what follows it until the environment is released. One task is ${WORK_MS} ms of waiting. "again" is a second environment like "plain": its ratio should be 1.00, and what it is away from that is this machine's noise. In brackets: 95 % intervals.`,
    tables: [
      { columns: ['Answer', 'median, ms', 'over plain Middy', 'p99, ms', 'over plain Middy'], rows: answers },
      { columns: ['Hold', 'answer → release, ms', 'over plain Middy', "last task's end → release, ms"], rows: holds },
    ],
    targets,
    controls,
    pictures: [{ file: 'performance-latency.svg', title, svg: drawBars(title, bars) }],
  }
}

const listCases = (folder: string, { peerWrappers }: Settings): Case[] => {
  const setups: [Name, FunctionSetup][] = []
  for (const client of ['ric4', 'ric3'] as const) {
    setups.push(['plain', { client, function: 'plain' }], ['again', { client, function: 'plain' }])
    setups.push(['hooks that do nothing', { client, function: 'hooks' }])
    if (client === 'ric4') setups.push(['gate', { client, function: 'deferred', companion: 'gate' }])
    setups.push(['internal', { client, function: 'deferred', companion: 'internal' }])
    setups.push(['layer', { client, function: 'deferred', companion: 'layer' }])
    setups.push(['beside an idle extension', { client, function: 'plain', layers: [layerOf(folder, nodeExtension)] }])
    setups.push(['awaited', { client, function: 'awaited' }], ['streamed', { client, function: 'streamed' }])
  }
  // One client only: some listen on a port that is always the same.
  for (const wrapper of peerWrappers) setups.push([wrapper.name, { client: 'ric4', function: 'plain', wrapper }])
  // Functions without tasks are invoked as often as those with: what was invoked last is warmer.
  return setups.flatMap(([name, setup]) =>
    ([0, 1] as const).map(tasks => ({ client: setup.client, name, tasks, setup })),
  )
}

const label = (client: string, name: Name, tasks: number) =>
  `RIC ${client.slice(-1)}, ${name}, ${tasks === 0 ? 'no task' : '1 task'}`

const measureBatch = async (folder: string, cases: readonly Case[], warmUp: number, rounds: number) => {
  const environments = new Map<FunctionSetup, Environment>()
  try {
    for (const { setup } of cases) {
      if (!environments.has(setup)) environments.set(setup, await startEnvironment(folder, setup))
    }
    const run = ({ setup, tasks }: Case) => (environments.get(setup) as Environment).measure(tasks)
    await sideBySide(cases, warmUp, run)
    return await sideBySide(cases, rounds, run)
  } finally {
    for (const { sandbox } of environments.values()) await sandbox[Symbol.asyncDispose]()
  }
}

type Environment = { sandbox: Sandbox; measure(tasks: 0 | 1): Promise<Measured> }

const startEnvironment = async (folder: string, setup: FunctionSetup): Promise<Environment> => {
  let releasedAt = 0
  let waiting: Measured | undefined
  const sandbox = await startFunction(folder, setup, ({ type }) => {
    if (type === 'released') releasedAt = Number(process.hrtime.bigint()) / 1e6
  })
  return {
    sandbox,
    async measure(tasks) {
      const releasedBefore = releasedAt
      const report = await sandbox.invoke({ work: tasks * WORK_MS })
      if (report.status !== 'success') throw new Error(`${JSON.stringify(setup)}: ${report.status} ${report.payload}`)
      // Work ends after its response, so the next response tells when it did.
      if (waiting) waiting.heldAfterWork = releasedBefore - endOfWork(report)
      const measured: Measured = { answered: report.at, heldAfterAnswer: report.releasedAt - report.at }
      waiting = tasks === 1 && (setup.function === 'deferred' || setup.function === 'streamed') ? measured : undefined
      return measured
    },
  }
}

const endOfWork = (report: InvocationReport): number => JSON.parse(report.body<{ body: string }>().body).endedAt
