// Names what a function that is about to time out has deferred, where nobody is left to do it afterwards. One timer for all
// invocations: later ones have later deadlines, and so set none before their answers.
import type { Log } from '../log.ts'
import { type Invocation, type InvocationHost, logUnfinished } from './invocation.ts'
import { clearTimeout, now, timer } from './waits.ts'

export function createDeadlineWatch(log: Pick<Log, 'error'>): InvocationHost['deadlines'] {
  const times = new Map<Invocation, number>()
  let timeout: NodeJS.Timeout | undefined
  let next = Number.POSITIVE_INFINITY

  return {
    add(invocation, at) {
      times.set(invocation, at)
      if (at < next) set(at)
    },
    delete: invocation => times.delete(invocation),
  }

  function set(at: number): void {
    next = at
    clearTimeout(timeout)
    timeout = timer(at - now(), false, look)
  }

  function look(): void {
    next = Number.POSITIVE_INFINITY
    for (const [invocation, at] of times) {
      if (at <= now()) {
        times.delete(invocation)
        logUnfinished(log, 'the function is about to time out', invocation)
      } else if (at < next) set(at)
    }
  }
}
