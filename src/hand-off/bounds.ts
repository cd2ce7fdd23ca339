// What bounds handed-off work: how often and for how long it is tried, how much at a time, and how long it may hold.
import type { RetryOptions } from './entry.ts'
import { MAX_WAIT_MS } from './spool.ts'

/** How often, and after how many milliseconds, it is tried again: after 0.5, 2, 8, 32 and 128 s. */
export const RETRY = { maxRetries: 5, minTimeout: 500, maxTimeout: 300_000, timeoutFactor: 4 }

/** More than this no `retry.maxRetries` has: a name holds two digits. */
export const MAX_RETRIES = 90

/** Milliseconds after which what has failed is not tried again. */
export const MAX_AGE_MS = 6 * 3_600_000

/** How often the process that runs a piece may die. */
export const MAX_DEATHS = 3

/** How many of the retries a run waits for. The others are left to later ones. */
export const QUICK_RETRIES = 2

/** How much runs at a time. */
export const CONCURRENCY = 8

/** How much of it for one receiver: few, unless one has answered last. */
export const PER_LANE = { unknown: 2, answered: 6 }

/** How long a hold waits for handed-off work where nobody has said so: a part of the time left, and milliseconds. */
const BUDGET = { part: 1 / 4, least: 1_000, most: 5_000 }

/** @param given - `POST_INVOKE_HAND_OFF_BUDGET`. */
export const budgetOf = (left: number, given: number | undefined): number => {
  // The first request of a process loads undici first, which takes a small function most of a second.
  const least = Math.min(BUDGET.least, left / 2)
  return Math.min(left, given ?? Math.min(Math.max(left * BUDGET.part, least), BUDGET.most))
}

/** @returns after how many milliseconds what has failed so often is due again: never sooner than asked, and not all at once. */
export const delayAfter = (attempts: number, retry: RetryOptions | undefined, retryAfter = 0): number => {
  const { minTimeout, maxTimeout, timeoutFactor } = { ...RETRY, ...(retry as object) }
  const delay = Math.min(minTimeout * timeoutFactor ** (attempts - 1), maxTimeout)
  return Math.min(Math.max(delay * (1 + Math.random() / 4), retryAfter), MAX_WAIT_MS)
}
