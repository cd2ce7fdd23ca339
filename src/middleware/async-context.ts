// The async context of a call, for what runs later: what every AsyncLocalStorage has at that moment.
import type { AsyncResource } from 'node:async_hooks'
import { builtIn } from '../built-in.ts'

export type AsyncContext = Pick<AsyncResource, 'runInAsyncScope'>

let Resource: typeof AsyncResource | undefined

/** @returns that of the caller. AsyncLocalStorage.snapshot() takes five times as long for it, and 20 times the memory. */
export function asyncContext(): AsyncContext {
  Resource ??= builtIn('node:async_hooks').AsyncResource
  return new Resource('middy-post-invoke', { requireManualDestroy: true })
}
