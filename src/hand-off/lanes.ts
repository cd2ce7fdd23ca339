// What is known of the receivers of handed-off work, for as long as this process lives: one that does not answer is left
// alone for a while, so that it costs one hold its budget and not each of them.

export type Lanes = {
  answered(lane: string): void
  /** Nobody answered. */
  failed(lane: string, until: number): void
  hasAnswered(lane: string): boolean
  /** In milliseconds since the epoch. */
  pausedUntil(lane: string): number
  /** How often in a row nobody answered. */
  failures(lane: string): number
}

/** How many are remembered: a function may send to any number of them. */
const MAX_REMEMBERED = 256

export const createLanes = (): Lanes => {
  const known = new Map<string, { readonly failures: number; readonly until: number }>()
  const remember = (lane: string, what: { failures: number; until: number }) => {
    known.delete(lane)
    known.set(lane, what)
    const [oldest] = known.keys()
    if (known.size > MAX_REMEMBERED && oldest !== undefined) known.delete(oldest)
  }
  return {
    answered: lane => remember(lane, { failures: 0, until: 0 }),
    failed: (lane, until) => remember(lane, { failures: (known.get(lane)?.failures ?? 0) + 1, until }),
    hasAnswered: lane => known.get(lane)?.failures === 0,
    pausedUntil: lane => known.get(lane)?.until ?? 0,
    failures: lane => known.get(lane)?.failures ?? 0,
  }
}
