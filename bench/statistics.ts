// Medians, ratios and how far to trust them.

/** Measured again and again, in the order of the rounds. */
export type Samples = readonly number[]

/** A figure, and the interval in which it lies in 95 of 100 runs like this one. */
export type Estimate = { readonly value: number; readonly low: number; readonly high: number }

export const median = (samples: Samples): number => quantile(samples, 0.5)

export const quantile = (samples: Samples, share: number): number => {
  const sorted = Float64Array.from(samples).sort()
  const position = (sorted.length - 1) * share
  const below = sorted[Math.floor(position)] ?? Number.NaN
  const above = sorted[Math.ceil(position)] ?? Number.NaN
  return below + (above - below) * (position - Math.floor(position))
}

export const ratio = (of: Samples, to: Samples, share = 0.5): Estimate =>
  estimate(of, to, (a, b) => quantile(a, share) / quantile(b, share))

export const difference = (of: Samples, minus: Samples): Estimate =>
  estimate(of, minus, (a, b) => median(a) - median(b))

/** What is compared comes in rounds: a slow moment of the machine slows a whole round, so rounds are drawn, not samples. */
const estimate = (a: Samples, b: Samples, of: (a: Samples, b: Samples) => number): Estimate => {
  const random = createRandom(1)
  const figures: number[] = []
  for (let resample = 0; resample < RESAMPLES; resample++) {
    const rounds = Array.from(a, () => Math.floor(random() * a.length))
    figures.push(of(pick(a, rounds), pick(b, rounds)))
  }
  return { value: of(a, b), low: quantile(figures, 0.025), high: quantile(figures, 0.975) }
}

const RESAMPLES = 300

const pick = (samples: Samples, rounds: readonly number[]) => rounds.map(round => samples[round] as number)

/**
 * Runs all cases once a round, in another order each time: none always follows the same other one, and whatever slows
 * the machine for a while slows all of them.
 */
export const sideBySide = async <Case, Sample>(
  cases: readonly Case[],
  rounds: number,
  run: (one: Case, round: number) => Promise<Sample> | Sample,
): Promise<Map<Case, Sample[]>> => {
  const samples = new Map<Case, Sample[]>(cases.map(one => [one, []]))
  for (let round = 0; round < rounds; round++) {
    for (const one of shuffle(cases)) samples.get(one)?.push(await run(one, round))
  }
  return samples
}

const shuffle = <Item>(items: readonly Item[]): Item[] =>
  items
    .map(item => ({ item, at: Math.random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item)

/** The same numbers in each run (mulberry32). */
const createRandom = (seed: number) => () => {
  seed = (seed + 0x6d2b79f5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
}
