import { invocationFinder } from './process.ts'
import { waitUntilIn } from './wait-until.ts'

/** Lets them find the invocation in which they are called. What is there already stays, and what comes later may replace ours. */
export function provideVercelContext(): void {
  const currentInvocation = invocationFinder()

  /** `deadline`: milliseconds since the epoch, as Vercel has it. Without one it is no date, and @vercel/functions gives none. */
  function requestContext(): { waitUntil(promise: unknown): void; deadline: number } | undefined {
    const invocation = currentInvocation()
    return (
      invocation && {
        waitUntil: promise => waitUntilIn(invocation, promise),
        deadline: Date.now() + invocation.remainingTime(),
      }
    )
  }

  // Where `waitUntil` of @vercel/functions, Next's `after()` and libraries made for Vercel look for their request.
  for (const name of ['@vercel/request-context', '@next/request-context']) {
    const key = Symbol.for(name)
    if (!(key in globalThis)) (globalThis as Record<symbol, unknown>)[key] = { get: requestContext }
  }
}
