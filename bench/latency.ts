// How long the caller waits, and how long the environment stays busy after the answer: many environments side by side,
// one invocation at a time, each in turn.
import type { InvocationReport, Sandbox } from 'middy-post-invoke/sandbox'
import { bareCompanion, type FunctionSetup, layerOf, nodeExtension, startFunction } from './functions.ts'
import { type Control, digits, type Section, type Target, withUnit } from './page.ts'
import type { Peer, Settings } from './settings.ts'
import { difference, median, quantile, ratio, type Samples, sideBySide } from './statistics.ts'

const WORK_MS = 5

/** In Node.js, and it does nothing with its events. */
const IDLE = 'beside an idle extension'

/** Our function, and a companion that does nothing but what it is told: no companion in bash is cheaper. */
const BARE = 'bare companion'

/** The same companion, and by hand the little that a function must do beside it: no middleware of this kind is cheaper. */
const LEAST = 'the least by hand'

/** The same for the gate, which needs no companion. */
const LEAST_GATE = 'the least by hand, gate'

/** One client only: some listen on a port that is always the same. */
const PEERS_CLIENT = 'ric4'

const besidePeer = ({ name }: Peer): Name => `beside ${name}`

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

  const over = (client: string, name: Name, other: Name, tasks: 0 | 1) =>
    ratio(answered(client, name, tasks), answered(client, other, tasks))
  /** What others cost that do less than ours: nobody is faster than they are. */
  const floor = (client: string, tasks: 0 | 1, name: Name) =>
    ['hooks that do nothing', ...(name === 'gate' ? [LEAST_GATE] : [LEAST, BARE, IDLE]), 'again']
      .map(other => `${other}: ${digits(over(client, other, 'plain', tasks).value)}`)
      .join('; ')
  const afterWork = (client: string, name: Name) => median(samplesOf(client, name, 1, 'heldAfterWork'))
  const targets = compared.flatMap(([client, name]): Target[] => {
    const held = (other: Name) => samplesOf(client, other, 0, 'heldAfterAnswer')
    const others =
      name === 'gate' ? [] : [IDLE, ...(client === PEERS_CLIENT ? settings.peerExtensions.map(besidePeer) : [])]
    return [
      ...([0, 1] as const).flatMap((tasks): Target[] => [
        {
          figure: `answer over plain Middy: ${label(client, name, tasks)}`,
          limit: name === 'gate' ? 1.03 : 1.08,
          unit: '×',
          measured: over(client, name, 'plain', tasks),
          ifMissed: floor(client, tasks, name),
        },
        ...others.map(
          (other): Target => ({
            figure: `… over plain Middy ${other}: ${label(client, name, tasks)}`,
            limit: 1,
            unit: '×',
            measured: over(client, name, other, tasks),
            ifMissed: floor(client, tasks, name),
          }),
        ),
      ]),
      ...(name === 'gate'
        ? []
        : [
            {
              figure: `added to the release, no task: ${label(client, name, 0)}`,
              limit: 0.5,
              unit: 'ms',
              measured: difference(held(name), held('plain')),
              ifMissed: `${BARE}: ${digits(difference(held(BARE), held('plain')).value)} ms; ${IDLE}: ${digits(difference(held(IDLE), held('plain')).value)} ms`,
            } as const,
          ]),
      {
        figure: `last task's end → release: ${label(client, name, 1)}`,
        limit: 0.5,
        unit: 'ms',
        measured: afterWork(client, name),
        ifMissed: `${BARE}: ${digits(afterWork(client, BARE))} ms; ${LEAST}: ${digits(afterWork(client, LEAST))} ms; plain Middy, from its answer to its release: ${digits(median(held('plain')))} ms`,
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
  return {
    title: 'Answer latency and hold',
    text: `The caller's wait, from INVOKE until the answer has been read, and what follows it until the environment is released. One task is ${WORK_MS} ms of waiting. "again" is a second environment like "plain": its ratio should be 1.00, and what it is away from that is this machine's noise. In brackets: 95 % intervals.`,
    tables: [
      { columns: ['Answer', 'median, ms', 'over plain Middy', 'p99, ms', 'over plain Middy'], rows: answers },
      { columns: ['Hold', 'answer → release, ms', 'over plain Middy', "last task's end → release, ms"], rows: holds },
    ],
    targets,
    controls,
  }
}

const listCases = (folder: string, { peerWrappers, peerExtensions }: Settings): Case[] => {
  const setups: [Name, FunctionSetup][] = []
  for (const client of ['ric4', 'ric3'] as const) {
    setups.push(['plain', { client, function: 'plain' }], ['again', { client, function: 'plain' }])
    setups.push(['hooks that do nothing', { client, function: 'hooks' }])
    if (client === 'ric4') {
      setups.push(['gate', { client, function: 'deferred', companion: 'gate' }])
      setups.push([LEAST_GATE, { client, function: 'least-gate' }])
    }
    setups.push(['internal', { client, function: 'deferred', companion: 'internal' }])
    setups.push(['layer', { client, function: 'deferred', companion: 'layer' }])
    const bare = layerOf(folder, bareCompanion)
    setups.push([BARE, { client, function: 'deferred', companion: 'layer', layers: [bare] }])
    setups.push([LEAST, { client, function: 'least', layers: [bare] }])
    setups.push([IDLE, { client, function: 'plain', layers: [layerOf(folder, nodeExtension)] }])
    for (const peer of client === PEERS_CLIENT ? peerExtensions : []) {
      setups.push([besidePeer(peer), { client, function: 'plain', layers: [layerOf(folder, peer)], beside: peer }])
    }
    setups.push(['awaited', { client, function: 'awaited' }], ['streamed', { client, function: 'streamed' }])
  }
  for (const wrapper of peerWrappers) setups.push([wrapper.name, { client: PEERS_CLIENT, function: 'plain', wrapper }])
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
      const { answered, released } = sandbox.send({ work: tasks * WORK_MS })
      if (setup.beside?.doneUrl) {
        await answered
        await fetch(setup.beside.doneUrl, { method: 'POST' })
      }
      const report = await released
      if (report.status !== 'success') throw new Error(`${JSON.stringify(setup)}: ${report.status} ${report.payload}`)
      // Work ends after its response, so the next response tells when it did.
      if (waiting) waiting.heldAfterWork = releasedBefore - endOfWork(report)
      const measured: Measured = { answered: report.at, heldAfterAnswer: report.releasedAt - report.at }
      waiting = tasks === 1 && ['deferred', 'least', 'streamed'].includes(setup.function) ? measured : undefined
      return measured
    },
  }
}

const endOfWork = (report: InvocationReport): number => JSON.parse(report.body<{ body: string }>().body).endedAt
