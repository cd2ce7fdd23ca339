// Three seconds of work for one invocation: what the caller notices of it.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Sandbox } from 'middy-post-invoke/sandbox'
import { type FunctionSetup, startFunction } from './functions.ts'
import { digits, type Section, withUnit } from './page.ts'
import type { Settings } from './settings.ts'
import { median, quantile, ratio, sideBySide } from './statistics.ts'

const WORK_MS = 3_000

export const measureLongWork = async (folder: string, settings: Settings): Promise<Section> => {
  const setups: Record<string, FunctionSetup> = {
    'RIC 4, gate': { client: 'ric4', function: 'deferred', companion: 'gate' },
    'RIC 4, internal': { client: 'ric4', function: 'deferred', companion: 'internal' },
    'RIC 4, layer': { client: 'ric4', function: 'deferred', companion: 'layer' },
    'RIC 4, streamed': { client: 'ric4', function: 'streamed' },
    'RIC 4, awaited': { client: 'ric4', function: 'awaited' },
    'RIC 3, internal': { client: 'ric3', function: 'deferred', companion: 'internal' },
    'RIC 3, layer': { client: 'ric3', function: 'deferred', companion: 'layer' },
    'RIC 3, awaited': { client: 'ric3', function: 'awaited' },
  }
  const names = Object.keys(setups)
  const sandboxes = new Map<string, Sandbox>()
  for (const name of names) sandboxes.set(name, await startFunction(folder, setups[name] as FunctionSetup))
  // Invoked before each measurement: what comes first after a pause is slow because this process has slept.
  const other = await startFunction(folder, { client: 'ric4', function: 'plain' })
  const samples = { [WORK_MS]: new Map<string, number[]>(), 0: new Map<string, number[]>() }
  try {
    // The first invocation of an environment is slower than all others.
    for (const sandbox of sandboxes.values()) await sandbox.invoke({ work: 0 })
    for (const work of Array.from({ length: settings.times(14, 3) }, () => [WORK_MS, 0] as const).flat()) {
      await sleep(WORK_MS) // nothing runs, so that all of them begin alike
      const released: Promise<unknown>[] = []
      const answers = await sideBySide(names, 1, async name => {
        await other.invoke({ work: 0 })
        const { answered, released: release } = (sandboxes.get(name) as Sandbox).send({ work })
        released.push(release)
        // Who waits for the work need not be waited for here.
        return name.endsWith('awaited') && work > 0 ? [answered] : [await answered]
      })
      await Promise.all(released)
      for (const name of names) {
        const answer = await answers.get(name)?.[0]?.[0]
        samples[work].set(name, [...(samples[work].get(name) ?? []), answer?.at ?? Number.NaN])
      }
    }
  } finally {
    for (const sandbox of [other, ...sandboxes.values()]) await sandbox[Symbol.asyncDispose]()
  }

  const figures = names.map(name => {
    const work = samples[WORK_MS].get(name) ?? []
    const none = samples[0].get(name) ?? []
    return { name, work, none, ratio: ratio(work, none) }
  })
  return {
    title: 'Three seconds of work',
    text: `Answer latency of an invocation with ${WORK_MS / 1000} s of work, over that of the same function with none. Both begin after ${WORK_MS / 1000} s in which the function slept.`,
    tables: [
      {
        columns: ['', 'with work, ms', 'without, ms', 'ratio'],
        rows: figures.map(({ name, work, none, ratio }) => [
          name,
          digits(median(work)),
          digits(median(none)),
          withUnit(ratio, '×'),
        ]),
      },
    ],
    targets: figures
      .filter(({ name }) => /gate|internal|layer/.test(name))
      .map(({ name, none, ratio }) => ({
        figure: `answer with 3 s of work over none: ${name}`,
        limit: 1.05,
        unit: '×',
        measured: ratio,
        ifMissed: `after ${WORK_MS / 1000} s of sleep all are slow: half of the answers without work came after ${digits(quantile(none, 0.25))} to ${digits(quantile(none, 0.75))} ms`,
      })),
  }
}
