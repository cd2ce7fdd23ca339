// Handed-off work as the layer's companion sees it: whether there is some, and who runs it. The runner is a file of its own,
// loaded when something waits for the first time, so that functions that hand nothing off pay nothing for it.

import type { Runner, RunnerOptions } from '../hand-off/runner.ts'
import { hasWaiting } from '../hand-off/spool.ts'
import type { Log } from '../log.ts'

/** How long before the end it stops: what runs is aborted, and has a moment to end. */
const STOP_MS = 150

export class HandedOff {
  readonly #spool: string | undefined
  readonly #overflow: string | undefined
  readonly #log: Log
  #runner: Runner | undefined

  constructor(spool: string | undefined, overflow: string | undefined, log: Log) {
    this.#spool = spool
    this.#overflow = overflow
    this.#log = log
  }

  /**
   * Runs what waits, until all is done or `end` is there (milliseconds since the epoch). Never rejects, never is late.
   *
   * @param isLast - Whether the environment ends then.
   */
  run(end: number, isLast?: boolean): Promise<void> | undefined {
    if (this.#spool === undefined || !hasWaiting(this.#spool, isLast)) return undefined
    try {
      this.#runner ??= load({
        spool: this.#spool,
        log: this.#log,
        isolatesJobs: true,
        overflowQueueUrl: this.#overflow,
      })
      return before(end, this.#runner.run(end - STOP_MS, isLast))
    } catch (error) {
      this.#log.error('handed-off work cannot be run; it stays in the spool', error)
      return undefined
    }
  }
}

const before = async (end: number, running: Promise<void>): Promise<void> => {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<void>(resolve => {
    timer = setTimeout(resolve, Math.max(0, end - Date.now()))
  })
  await Promise.race([running, late])
  clearTimeout(timer)
}

const load = (options: RunnerOptions): Runner => {
  const { createRunner } = require('./runner.cjs') as typeof import('../hand-off/runner.ts')
  return createRunner(options)
}
