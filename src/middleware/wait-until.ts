// What stands behind each `waitUntil()` that libraries and frameworks are given.
import type { Invocation } from './invocation.ts'
import { existingProcess } from './process.ts'
import { isThenable } from './waits.ts'

/** Defers a promise as libraries hand it over: it never throws. */
export function waitUntilIn(invocation: Invocation, promise: unknown): void {
  try {
    // Given as it is: it may reject before it is its turn.
    invocation.defer(isThenable(promise) ? promise : () => promise, { name: 'waitUntil' })
  } catch (error) {
    existingProcess()?.log.error('a promise given to waitUntil() is not waited for:', error)
  }
}
