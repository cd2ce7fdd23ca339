// On Managed Instances handlers run in worker threads, where SIGTERM never arrives, and the main thread runs none of
// the function's code. A preload in the main thread (src/preload.ts) relays the signal to the workers, over a channel.

import { builtIn } from '../built-in.ts'
import { endProcess } from './end-process.ts'

const CHANNEL = 'middy-post-invoke/shutdown'

/** Set by the preload: worker threads inherit it. */
const VARIABLE = 'POST_INVOKE_PRELOADED'

type Relayed =
  /** From a worker: it has something to do at shutdown. */
  | { readonly type: 'listening'; readonly threadId: number }
  /** To the workers: SIGTERM has come. */
  | { readonly type: 'shutdown' }
  /** From a worker: it has done it. */
  | { readonly type: 'done'; readonly threadId: number }

/** Whether there is a preload in the main thread. */
export const isRelayed = (): boolean => process.env[VARIABLE] !== undefined

/**
 * A worker thread's end.
 *
 * @param onShutdown - Called once SIGTERM has come; the main thread waits for its promise.
 */
export function listenForRelay(onShutdown: () => Promise<void>): void {
  const { threadId } = builtIn('node:worker_threads')
  const channel = openChannel(message => {
    if (message.type === 'shutdown') onShutdown().finally(() => channel.postMessage({ type: 'done', threadId }))
  })
  channel.postMessage({ type: 'listening', threadId })
}

/**
 * The main thread's end: passes SIGTERM on, and ends the process once every worker that listens is done, or time is up.
 *
 * @param budget - Milliseconds from SIGTERM until Lambda kills the process.
 */
export function relaySigterm(budget: number): void {
  process.env[VARIABLE] = '1'
  const listening = new Set<number>()
  const channel = openChannel(message => {
    if (message.type === 'listening') listening.add(message.threadId)
    if (message.type === 'done' && listening.delete(message.threadId) && listening.size === 0) endProcess()
  })
  process.once('SIGTERM', () => {
    if (listening.size === 0) return endProcess()
    setTimeout(endProcess, budget)
    channel.postMessage({ type: 'shutdown' })
  })
}

function openChannel(onMessage: (message: Relayed) => void) {
  const channel = new BroadcastChannel(CHANNEL)
  channel.onmessage = event => onMessage((event as unknown as { data: Relayed }).data)
  // The channel alone may keep no thread going.
  ;(channel as unknown as { unref(): void }).unref()
  return channel as { postMessage(message: Relayed): void }
}
