// Waits with a certain end. They use the native promises of async functions, since `globalThis.Promise` may be replaced, and
// the timers and the clock of the start, since tests fake them.

import { builtIn } from '../built-in.ts'

const { setTimeout, clearTimeout, setImmediate } = builtIn('node:timers')

/** Milliseconds on a clock that nobody sets. */
export const now: () => number = performance.now.bind(performance)

/** What setTimeout can count, 24 days: past it, it fires at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1

const NativePromise = (async () => {})().constructor as PromiseConstructor

/** A promise, and what resolves it. */
export function resolvers<Value = void>(): PromiseWithResolvers<Value> {
  return NativePromise.withResolvers()
}

/** One turn of the event loop. */
export const turn = (): Promise<void> => new NativePromise(resolve => setImmediate(resolve))

export { clearTimeout }

/** @param keepsAlive - Whether the process may not end before: where nothing else keeps it, it would. */
export const timer = (milliseconds: number, keepsAlive: boolean, fn: () => void): NodeJS.Timeout => {
  const timeout = setTimeout(fn, Math.max(0, Math.min(milliseconds, LONGEST_TIMER_MS)))
  return keepsAlive ? timeout : timeout.unref()
}

/** Waits for each that is there. */
export const all = async (waits: readonly unknown[]): Promise<void> => {
  for (const wait of waits) await wait
}

/** Waits for `work`, but no longer than that. */
export async function withLimit(milliseconds: number, keepsAlive: boolean, work: PromiseLike<unknown>): Promise<void> {
  const { promise, resolve } = resolvers()
  const timeout = timer(milliseconds, keepsAlive, resolve)
  try {
    await NativePromise.race([work, promise])
  } finally {
    clearTimeout(timeout)
  }
}

export const isFunction = (value: unknown): value is (...given: any[]) => unknown => typeof value === 'function'

export const isThenable = (value: any): value is PromiseLike<unknown> =>
  value !== null && (typeof value === 'object' || isFunction(value)) && isFunction(value.then)

/** A native promise of what may be any: it calls back later, and once, whatever the `then` of that does. */
export const adopt = (result: PromiseLike<unknown>): Promise<unknown> =>
  // A plain one is taken as it is. Promise.resolve alone would do so too with one whose own `then`, or that of its class, may
  // do anything.
  Object.getPrototypeOf(result) === NativePromise.prototype && !Object.hasOwn(result, 'then')
    ? NativePromise.resolve(result)
    : new NativePromise(resolve => resolve(result))
