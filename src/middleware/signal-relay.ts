// On Managed Instances handlers run in worker threads, where SIGTERM never arrives, and the main thread runs none of
// the function's code. A preload in the main thread (src/preload.ts) relays the signal to the workers, over a channel.

import { endProcess } from './end-process.ts'

/** What listens in a worker thread, by a name that it has made up. */
type Listener = number

type Relayed =
  /** To the workers: SIGTERM has come. */
  | 'shutdown'
  /** From a worker: it has something to do at shutdown. */
  | { readonly listening: Listener }
  /** From a worker: it has done it. */
  | { readonly done: Listener }

/**
 * A worker thread's end.
 *
 * @param onShutdown - Called once SIGTERM has come; the main thread waits for its promise.
 * @returns why SIGTERM will not come, or `''`.
 */
export function listenForRelay(onShutdown: () => Promise<void>): string {
  // Set by the preload: worker threads inherit it.
  if (process.env.POST_INVOKE_PRELOADED === undefined) {
    return 'a worker thread hears of none without NODE_OPTIONS=--import middy-post-invoke/preload'
  }
  const listener = Math.random()
  const channel = openChannel(message => {
    if (message === 'shutdown') onShutdown().finally(() => channel.postMessage({ done: listener }))
  })
  channel.postMessage({ listening: listener })
  return ''
}

/**
 * The main thread's end: passes SIGTERM on, and ends the process once every worker that listens is done, or time is up.
 *
 * @param budget - Milliseconds from SIGTERM until Lambda kills the process.
 */
export function relaySigterm(budget: number): void {
  process.env.POST_INVOKE_PRELOADED = '1'
  const listening = new Set<Listener>()
  const channel = openChannel(message => {
    if (message === 'shutdown') return
    if ('listening' in message) listening.add(message.listening)
    else if (listening.delete(message.done) && listening.size === 0) endProcess()
  })
  process.once('SIGTERM', () => {
    if (listening.size === 0) return endProcess()
    setTimeout(endProcess, budget)
    channel.postMessage('shutdown')
  })
}

function openChannel(onMessage: (message: Relayed) => void) {
  const channel = new BroadcastChannel('middy-post-invoke/shutdown')
  channel.onmessage = event => onMessage((event as unknown as { data: Relayed }).data)
  // The channel alone may keep no thread going.
  ;(channel as unknown as { unref(): void }).unref()
  return channel as { postMessage(message: Relayed): void }
}
