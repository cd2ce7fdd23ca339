// The tasks of one invocation that wait to run: last in, first out (or first in, first out), a few at a time.

import { resolvers } from './waits.ts'

export type Order = 'lifo' | 'fifo'

type TaskStack<Entry> = {
  push(entry: Entry): void
  /** Runs what is there and what is pushed meanwhile. Resolves when nothing is left, or may start, and nothing runs. */
  drain(): Promise<void>
  /**
   * Takes out, without running them, those waiting entries for which `which` says true. It is asked from the oldest on.
   *
   * @returns them in the order in which they would have been started.
   */
  takeOut(which: (entry: Entry) => boolean): Entry[]
  /** How many have not been started. No getter: in an object literal each makes a hidden class of its own. */
  size(): number
  /** Brings entries, the oldest first, into the order in which they are run. */
  inOrder(entries: Entry[]): Entry[]
}

/**
 * @param mayStart - Asked before each entry: with `false` it stays where it is, and so do those behind it.
 * @param run - Runs one entry. Must not throw or reject, and its promise must not stay pending for ever: see runTask().
 */
export function createTaskStack<Entry>(
  { order, concurrency }: { order: Order; concurrency: number },
  mayStart: () => boolean,
  run: (entry: Entry) => Promise<unknown> | undefined,
): TaskStack<Entry> {
  let entries: Entry[] = []
  /** First in, first out takes from here on, and forgets what it has taken. */
  let head = 0
  let workers = 0
  let drained: PromiseWithResolvers<void> | undefined

  function take(): Entry | undefined {
    if (order === 'lifo') return entries.pop()
    const entry = entries[head]
    if (entry !== undefined) entries[head++] = undefined as never
    return entry
  }

  async function work() {
    workers++
    await undefined // no task starts inside the call that defers it
    while (mayStart()) {
      const entry = take()
      if (entry === undefined) break
      await run(entry)
    }
    if (--workers === 0) {
      drained?.resolve()
      drained = undefined
    }
  }

  function size() {
    return entries.length - head
  }

  function inOrder(oldestFirst: Entry[]) {
    return order === 'lifo' ? oldestFirst.reverse() : oldestFirst
  }

  return {
    push(entry) {
      entries.push(entry)
      if (drained && workers < concurrency) work()
    },
    drain() {
      drained ??= resolvers()
      const { promise } = drained
      // One worker even when nothing waits: it resolves the promise.
      const wanted = Math.min(concurrency, size() || 1)
      while (workers < wanted) work()
      return promise
    },
    takeOut(which) {
      const waiting = entries.slice(head)
      entries = []
      head = 0
      const out: Entry[] = []
      for (const entry of waiting) (which(entry) ? out : entries).push(entry)
      return inOrder(out)
    },
    size,
    inOrder,
  }
}
