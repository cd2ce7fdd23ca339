// The tasks of one invocation that wait to run: last in, first out (or first in, first out), a few at a time.

import { resolvers } from './waits.ts'

export type Order = 'lifo' | 'fifo'

type TaskStack<Entry> = {
  push(entry: Entry): void
  /** Runs what is there and what is pushed meanwhile. Resolves when nothing is left, or may start, and nothing runs. */
  drain(): Promise<void>
  /** Takes out, without running it, what has not been started. */
  takeAll(): Entry[]
  /** How many have not been started. No getter: in an object literal each makes a hidden class of its own. */
  size(): number
  /** The first of those that have not been started, in the order in which they will be. */
  next(count: number): Entry[]
}

/**
 * @param mayStart - Asked before each entry: with `false` it stays where it is, and so do those behind it.
 * @param run - Runs one entry. Must not reject, and its promise must not stay pending for ever: see runTask().
 */
export function createTaskStack<Entry>(options: {
  order: Order
  concurrency: number
  mayStart: () => boolean
  run: (entry: Entry) => Promise<unknown> | undefined
}): TaskStack<Entry> {
  const entries: Entry[] = []
  /** First in, first out takes from here on, and forgets what it has taken. */
  let head = 0
  let workers = 0
  let drained: PromiseWithResolvers<void> | undefined

  function take(): Entry | undefined {
    if (options.order === 'lifo') return entries.pop()
    const entry = entries[head]
    if (entry === undefined) return undefined
    entries[head++] = undefined as never
    if (head === entries.length) {
      entries.length = 0
      head = 0
    }
    return entry
  }

  async function work() {
    workers++
    await undefined // no task starts inside the call that defers it
    while (options.mayStart()) {
      const entry = take()
      if (entry === undefined) break
      const running = options.run(entry)
      if (running) await running
    }
    if (--workers === 0) {
      drained?.resolve()
      drained = undefined
    }
  }

  return {
    push(entry) {
      entries.push(entry)
      if (drained && workers < options.concurrency) work()
    },
    drain() {
      drained ??= resolvers()
      const { promise } = drained
      // One worker even when nothing waits: it resolves the promise.
      const wanted = Math.min(options.concurrency, Math.max(1, entries.length - head))
      while (workers < wanted) work()
      return promise
    },
    takeAll() {
      const waiting: Entry[] = []
      for (let entry = take(); entry !== undefined; entry = take()) waiting.push(entry)
      return waiting
    },
    size() {
      return entries.length - head
    },
    next(count) {
      return options.order === 'lifo' ? entries.slice(-count).reverse() : entries.slice(head, head + count)
    },
  }
}
