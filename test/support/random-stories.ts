// Stories of interleavings.ts, made up at random by fast-check.
import fc from 'fast-check'
import type { Load } from './core-bundle.ts'
import { type Choose, type Setting, tell } from './interleavings.ts'
import type { RandomRuns } from './random-runs.ts'

export const places = [
  ['RIC 4', 'gate'],
  ['RIC 4', 'layer'],
  ['RIC 4', 'internal'],
  ['RIC 4', 'off'],
  ['RIC 4', 'side by side'],
  ['RIC 3', 'layer'],
  ['RIC 3', 'internal'],
  ['RIC 3', 'off'],
  ['silent', 'layer'],
  ['silent', 'internal'],
  ['silent', 'off'],
] as const

const ends = fc.constantFrom('ends', 'throws', 'takes time', 'hangs')

/** Whether there are also `onTaskError`, a shutdown hook and handed-off work. Without them what is rare is met sooner. */
export type Extent = 'all' | 'without hooks'

const settingsOf = (extent: Extent): fc.Arbitrary<Setting> =>
  fc
    .record(
      {
        place: fc.constantFrom(...places),
        wrapper: fc.constantFrom('plain', 'Middy'),
        tasks: fc.constantFrom('end', 'hang'),
        options: fc.record(
          {
            order: fc.constantFrom('lifo', 'fifo'),
            concurrency: fc.constantFrom(1, 2),
            onDeadline: fc.constantFrom('carry', 'drop'),
            taskTimeout: fc.constantFrom(500, 10_000),
            withoutCompanion: fc.constantFrom('await', 'detach'),
            shutdown: fc.boolean(),
          },
          { requiredKeys: [] },
        ),
        ...(extent === 'all' && { onTaskError: ends, hook: ends, handsOff: fc.boolean() }),
      },
      { requiredKeys: ['place', 'wrapper', 'tasks', 'options'] },
    )
    .map(({ place: [client, companion], ...rest }) => ({ client, companion, ...rest }))

const MOST_CHOICES = 40

/** Numbers that decide. What is rare, and mostly the end, is chosen a fifth as often as the rest. */
const choices = fc.array(fc.nat(9_999), { maxLength: MOST_CHOICES, size: 'max' })

const chooseBy = (numbers: readonly number[]): Choose => {
  let next = 0
  return (common, rare) => {
    const number = numbers[next++]
    if (number === undefined) return undefined
    const rest = number % (5 * common + rare)
    return rest < 5 * common ? rest % common : rest - 4 * common
  }
}

export const explore = async (load: Load, { seed, runs, path, limit }: RandomRuns, extent: Extent = 'all') => {
  const states = new Set<string>()
  let stories = 0
  let steps = 0
  const property = fc.asyncProperty(settingsOf(extent), choices, async (setting, numbers) => {
    const story = await tell(load, setting, chooseBy(numbers))
    stories++
    steps += story.steps
    for (const state of story.states) states.add(`${setting.client} ${setting.companion} ${state}`)
  })
  const details = await fc.check(property, {
    seed,
    numRuns: runs,
    interruptAfterTimeLimit: limit,
    ...(path !== undefined && { path }),
  })
  return { details, stories, steps, states: states.size }
}
