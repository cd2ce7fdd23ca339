// Runs what waits in the spool: in the layer's companion, which loads this file with the first entry, or in the function's
// own process where there is no layer.
import type { Log } from '../log.ts'
import { type Entry, parseEntry } from './entry.ts'
import { type CallJob, callInThisProcess, callInWorker } from './jobs.ts'
import { sendToQueue } from './overflow.ts'
import { RequestSender } from './requests.ts'
import { type Claim, SpoolReader } from './spool.ts'

export type RunnerOptions = {
  readonly spool: string
  readonly log: Log
  /** Whether jobs get a thread of their own, which can be ended, and whose end is not ours. */
  readonly isolatesJobs: boolean
  /** The queue for what could not be done in time. */
  readonly overflowQueueUrl: string | undefined
}

export type Runner = {
  /**
   * Runs what waits, and what comes to wait meanwhile. Never rejects. A run under way goes on, until the new deadline.
   *
   * @param deadline - When to stop, in milliseconds since the epoch. What is not done by then waits again.
   * @param isLast - Whether nothing will run in this environment any more: what is not done is lost.
   */
  run(deadline: number, isLast?: boolean): Promise<void>
}

export { RequestSender } from './requests.ts'

/** Of the time there is, what sending to the queue may take: the client takes a quarter of a second to load. */
const OVERFLOW_MS = 1_000

/** How much is done at a time. */
const CONCURRENCY = 8

/** How many names one log line holds, and how many are read once time is up: there may be a thousand, and no time for it. */
const MAX_NAMES = 50
const MAX_NAMED = 200

/** What setTimeout can count. */
const MAX_MS = 2 ** 31 - 1

export const createRunner = (options: RunnerOptions): Runner => {
  let current: Run | undefined
  let ended: Promise<void> | undefined
  const runner: Runner = {
    run(deadline, isLast = false) {
      if (current?.isOver && ended) return ended.then(() => runner.run(deadline, isLast))
      if (current && ended) {
        current.limit(deadline, isLast)
        return ended
      }
      current = new Run(options)
      current.limit(deadline, isLast)
      ended = current.toEnd().finally(() => {
        current = undefined
      })
      return ended
    },
  }
  return runner
}

/** What became of one entry. */
type Fate = 'done' | 'failed' | 'out of time'

class Run {
  readonly #options: RunnerOptions
  readonly #spool: SpoolReader
  readonly #requests = new RequestSender()
  readonly #call: CallJob
  readonly #controller = new AbortController()
  /** For the overflow queue. */
  readonly #unfinished: { entry: Entry; claim: Claim }[] = []
  /** Described, for the log: what is left may be too large to be kept. */
  readonly #undone: string[] = []
  #names: string[] = []
  /** Given back for lack of time, so not to be taken again in this run. */
  readonly #left = new Set<string>()
  #deadline = 0
  #end = 0
  #isLast = false
  #timer: NodeJS.Timeout | undefined

  constructor(options: RunnerOptions) {
    this.#options = options
    this.#spool = new SpoolReader(options.spool)
    this.#call = options.isolatesJobs ? callInWorker : callInThisProcess
  }

  get isOver(): boolean {
    return this.#controller.signal.aborted || Date.now() >= this.#deadline
  }

  limit(end: number, isLast: boolean): void {
    const left = end - Date.now()
    const deadline = this.#options.overflowQueueUrl === undefined ? end : end - Math.min(OVERFLOW_MS, left / 2)
    this.#end = end
    this.#deadline = deadline
    this.#isLast ||= isLast
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#controller.abort(), Math.min(Math.max(0, deadline - Date.now()), MAX_MS))
  }

  async toEnd(): Promise<void> {
    try {
      await Promise.all(Array.from({ length: CONCURRENCY }, () => this.#work()))
      await this.#overflow()
      for (const { entry, claim } of this.#unfinished) this.#giveBack(entry, claim)
      this.#nameWhatIsLeft()
    } catch (error) {
      this.#options.log.error('a fault of ours ended the run of handed-off work; it stays in the spool', error)
    } finally {
      clearTimeout(this.#timer)
      await this.#requests.close()
    }
  }

  async #work(): Promise<void> {
    for (let claim = this.#take(); claim !== undefined; claim = this.#take()) {
      const { text, fault } = claim.claim
      const entry = fault?.message ?? parseEntry(text)
      if (typeof entry === 'string') {
        this.#options.log.error(
          `an entry of the spool cannot be read (${entry}): ${this.#options.spool}/${claim.name} is set aside as .corrupt`,
        )
        claim.claim.setAside()
        continue
      }
      const fate = await this.#execute(entry)
      if (fate === 'out of time') {
        this.#left.add(claim.name)
        if (this.#options.overflowQueueUrl === undefined) this.#giveBack(entry, claim.claim)
        else this.#unfinished.push({ entry, claim: claim.claim })
        // Whoever waits for us, and no longer than until the end, has its turn.
        await new Promise<void>(resolve => setImmediate(resolve))
      } else claim.claim.done()
    }
  }

  #giveBack({ name, requestId }: Entry, claim: Claim) {
    claim.giveBack()
    this.#undone.push(`${JSON.stringify(name)} of request ${requestId}`)
  }

  #take(): { name: string; claim: Claim } | undefined {
    if (this.isOver && this.#undone.length >= MAX_NAMED) return undefined
    return this.#takeListed() ?? this.#takeListed(this.#spool.list())
  }

  /** One listing is for many: with each entry anew, a thousand of them would take a second and more. */
  #takeListed(names = this.#names): { name: string; claim: Claim } | undefined {
    this.#names = names
    for (let name = names.shift(); name !== undefined; name = names.shift()) {
      if (this.#left.has(name)) continue
      const claim = this.#spool.take(name)
      if (claim) return { name, claim }
    }
    return undefined
  }

  async #execute(entry: Entry): Promise<Fate> {
    const { signal } = this.#controller
    if (signal.aborted || Date.now() >= this.#deadline) return 'out of time'
    const { log } = this.#options
    const { work } = entry
    try {
      const said =
        work.kind === 'request'
          ? await this.#requests.send(work, entry.key, signal)
          : await this.#call(work, { idempotencyKey: entry.key, awsRequestId: entry.requestId, signal })
      log.debug(`${describeEntry(entry)} done: ${said}`, { requestId: entry.requestId })
      return 'done'
    } catch (error) {
      if (signal.aborted) return 'out of time'
      log.error(`${describeEntry(entry)} failed:`, error, { requestId: entry.requestId })
      return 'failed'
    }
  }

  /** What the queue has taken is no longer ours. */
  async #overflow(): Promise<void> {
    const { overflowQueueUrl, log } = this.#options
    const [first] = this.#unfinished
    if (overflowQueueUrl === undefined || first === undefined) return
    try {
      const all = this.#unfinished.map(({ entry, claim }) => ({ ...entry, text: claim.text }))
      const limit = AbortSignal.timeout(Math.max(0, Math.round(this.#end - Date.now())))
      const sent = await sendToQueue(overflowQueueUrl, first.entry.taskRoot, all, limit)
      for (const { entry, claim } of this.#unfinished.splice(0)) {
        if (sent.has(entry.key)) claim.done()
        else this.#unfinished.push({ entry, claim })
      }
      log.debug(`${sent.size} of ${all.length} pieces of handed-off work went to the overflow queue`)
    } catch (error) {
      log.error('handed-off work could not be sent to the overflow queue', error)
    }
  }

  #nameWhatIsLeft() {
    const left = this.#undone
    if (left.length === 0) return
    const { log } = this.#options
    const unnamed = this.#spool.list().filter(name => !this.#left.has(name)).length
    for (let index = 0; index < left.length; index += MAX_NAMES) {
      const isEnd = index + MAX_NAMES >= left.length
      const names =
        left.slice(index, index + MAX_NAMES).join(', ') + (isEnd && unnamed > 0 ? ` and ${unnamed} more` : '')
      if (this.#isLast) {
        log.error(
          `the environment ends before handed-off work was done: ${names}. It is lost, unless Lambda starts the function here anew.`,
        )
      } else {
        log.warn(
          `time was up before handed-off work was done: ${names}. It stays in the spool for what runs next in this environment, if anything does.`,
        )
      }
    }
  }
}

const describeEntry = ({ name, requestId }: Entry) => `handed-off work ${JSON.stringify(name)} of request ${requestId}`
