// Runs what waits in the spool: in the layer's worker, which loads this file with the first entry, or in the function's own
// process where there is no layer.
import type { Log } from '../log.ts'
import {
  budgetOf,
  CONCURRENCY,
  delayAfter,
  MAX_AGE_MS,
  MAX_DEATHS,
  MAX_RETRIES,
  PER_LANE,
  QUICK_RETRIES,
  RETRY,
} from './bounds.ts'
import { type Entry, parseEntry } from './entry.ts'
import { isFinal } from './find-job.ts'
import { type CallJob, callInThisProcess, callInWorker } from './jobs.ts'
import { createLanes, type Lanes } from './lanes.ts'
import { sendToQueue } from './overflow.ts'
import { RequestFailure, RequestSender } from './requests.ts'
import { readHandOffBudget, readJobsModule, taskRoot } from './settings.ts'
import { LONGEST_INVOCATION_MS, type Piece } from './spool.ts'
import { type Claim, isSuspect, SpoolReader } from './spool-reader.ts'

export type RunnerOptions = {
  readonly spool: string
  readonly log: Log
  /** Whether jobs get a thread of their own, which can be ended, and whose end is not ours. */
  readonly isolatesJobs: boolean
  /** The queue for what could not be done in time, or was given up. */
  readonly overflowQueueUrl: string | undefined
  /** The file of the jobs module. Default: that of `POST_INVOKE_JOBS`. An entry does not say which one it is. */
  readonly jobsModule?: string | undefined
  /** Milliseconds that a run may last which is not the last one. Default: `POST_INVOKE_HAND_OFF_BUDGET`. */
  readonly budget?: number | undefined
}

export type Runner = {
  /**
   * Runs what waits, and what comes to wait meanwhile, for as long as the budget lasts. Never rejects. A run under way goes
   * on, until the new deadline.
   *
   * @param deadline - When to stop at the latest, in milliseconds since the epoch. What is not done by then waits again.
   * @param isLast - Whether nothing will run in this environment any more: what is not done is lost, and there is no budget.
   */
  run(deadline: number, isLast?: boolean): Promise<void>
}

export { RequestSender } from './requests.ts'

/** Of the time there is, what sending to the queue may take: the client takes a quarter of a second to load. */
const OVERFLOW_MS = 1_000

/** How long after the end of a run its leases end: until then it is still writing down what became of its work. */
const LEASE_MARGIN_MS = 1_000

/** How often a run looks for what has come to wait meanwhile. */
const LOOK_MS = 100

/** How many names one log line holds, and how many are read once time is up: there may be a thousand, and no time for it. */
const MAX_NAMES = 50
const MAX_NAMED = 200

/** What setTimeout can count. */
const MAX_MS = 2 ** 31 - 1

/** @throws PostInvokeError `ERR_INVALID_VARIABLE` where an option is that of a variable, and this is wrong. */
export const createRunner = (options: RunnerOptions): Runner => {
  const settings: Settings = {
    ...options,
    budget: options.budget ?? readHandOffBudget(),
    jobsModule: options.jobsModule ?? readJobsModule(),
    lanes: createLanes(),
    named: new Set(),
  }
  let current: Run | undefined
  let ended: Promise<void> | undefined
  const runner: Runner = {
    run(deadline, isLast = false) {
      if (current?.isOver && ended) return ended.then(() => runner.run(deadline, isLast))
      if (current && ended) {
        current.limit(deadline, isLast)
        return ended
      }
      current = new Run(settings)
      current.limit(deadline, isLast)
      ended = current.toEnd().finally(() => {
        current = undefined
      })
      return ended
    },
  }
  return runner
}

type Settings = RunnerOptions & {
  readonly lanes: Lanes
  /** What lies in the spool and is none of its own, as far as the log has named it. */
  readonly named: Set<string>
}

/** What this process has taken, and what it says. */
type Taken = { readonly entry: Entry; readonly claim: Claim }

/** Of those that are to go to the queue, what becomes of one that the queue does not take. */
type ForQueue = Taken & { readonly isGivenUp?: boolean; readonly isUnbegun?: boolean }

class Run {
  readonly #settings: Settings
  readonly #spool: SpoolReader
  readonly #requests = new RequestSender()
  readonly #call: CallJob
  readonly #controller = new AbortController()
  /** Under way, by token. */
  readonly #running = new Map<string, { readonly piece: Piece; readonly claim: Claim; readonly ended: Promise<void> }>()
  /** Tokens of what was begun in this run. */
  readonly #tried = new Set<string>()
  /** For the overflow queue. */
  readonly #forQueue: ForQueue[] = []
  /** Begun and out of time: described, for the log. */
  readonly #unfinished: string[] = []
  /** Tokens of what could not be taken: somebody else was faster, or the file system refuses. */
  readonly #missed = new Set<string>()
  /** As last listed, without what was begun since. */
  #pieces: Piece[] = []
  #listedAt = 0
  #beganAt = Date.now()
  #deadline = 0
  #end = 0
  #isLast = false
  #timer: NodeJS.Timeout | undefined

  constructor(settings: Settings) {
    this.#settings = settings
    this.#spool = new SpoolReader(settings.spool)
    this.#call = settings.isolatesJobs ? callInWorker : callInThisProcess
  }

  get isOver(): boolean {
    return this.#controller.signal.aborted || Date.now() >= this.#deadline
  }

  /** What is begun counts an attempt, so it is to have a fair part of the time. */
  get #lastBegin(): number {
    return this.#isLast ? this.#deadline : this.#deadline - (this.#deadline - this.#beganAt) / 4
  }

  limit(end: number, isLast: boolean): void {
    const { overflowQueueUrl, budget } = this.#settings
    const now = Date.now()
    const left = end - now
    const forQueue = overflowQueueUrl === undefined ? 0 : Math.max(0, Math.min(OVERFLOW_MS, left / 2))
    this.#isLast ||= isLast
    this.#beganAt = now
    this.#deadline = now + (this.#isLast ? left - forQueue : Math.min(budgetOf(left, budget), left - forQueue))
    this.#end = this.#deadline + forQueue
    for (const { claim } of this.#running.values()) claim.renew(this.#leaseEnd)
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#controller.abort(), Math.min(Math.max(0, this.#deadline - now), MAX_MS))
  }

  async toEnd(): Promise<void> {
    try {
      await this.#runAll()
      if (this.#settings.overflowQueueUrl !== undefined) await this.#overflow(this.#settings.overflowQueueUrl)
      await this.#nameWhatIsLeft()
      this.#nameWhatIsStrange()
    } catch (error) {
      this.#settings.log.error(
        'a fault of middy-post-invoke ended the run of handed-off work; it stays in the spool',
        error,
      )
    } finally {
      clearTimeout(this.#timer)
      await this.#requests.close()
    }
  }

  async #runAll(): Promise<void> {
    while (!this.isOver) {
      this.#beginAll()
      const wait = this.#untilNext()
      if (this.#running.size === 0 && wait === undefined) return
      await this.#untilChange(Math.min(wait ?? LOOK_MS, LOOK_MS))
    }
    this.#controller.abort()
    await Promise.all([...this.#running.values()].map(({ ended }) => ended))
  }

  #beginAll() {
    while (this.#running.size < CONCURRENCY && !this.isOver) {
      const piece = this.#next()
      if (!piece) return
      const claim = this.#spool.take(piece, this.#leaseEnd)
      if (!claim) {
        this.#missed.add(piece.token)
        continue
      }
      this.#tried.add(piece.token)
      const ended = this.#run(claim).finally(() => this.#running.delete(piece.token))
      this.#running.set(piece.token, { piece, claim, ended })
    }
  }

  /** When what is under way is anybody's, if this process says nothing any more. */
  get #leaseEnd(): number {
    return Math.min(this.#end + LEASE_MARGIN_MS, Date.now() + LONGEST_INVOCATION_MS)
  }

  #next(): Piece | undefined {
    const now = Date.now()
    const find = () => this.#pieces.findIndex(piece => this.#mayBegin(piece, now))
    let index = find()
    // One listing is for many: with each piece anew, a thousand of them would take a second and more.
    if (index < 0 && (this.#running.size === 0 || now - this.#listedAt >= LOOK_MS)) {
      this.#list(now)
      index = find()
    }
    return index < 0 ? undefined : this.#pieces.splice(index, 1)[0]
  }

  #list(now: number) {
    const { lanes } = this.#settings
    this.#listedAt = now
    this.#pieces = this.#spool.list().flatMap(piece => {
      const pausedUntil = lanes.pausedUntil(piece.lane)
      if (this.#isLast || pausedUntil <= now || piece.due > now || this.#isOld(piece, now)) return [piece]
      // Nobody is to look for it before that.
      return this.#spool.postpone(piece, pausedUntil)
    })
  }

  /** What is never begun has no attempts, and may wait for its receiver for ever. */
  #isOld({ accepted }: Piece, now: number): boolean {
    return now - accepted > MAX_AGE_MS
  }

  #mayBegin(piece: Piece, now: number): boolean {
    if (now >= this.#lastBegin || this.#missed.has(piece.token)) return false
    // When the environment ends nothing waits any longer, but for its second attempt in this very run.
    const isDue = piece.due <= now || (this.#isLast && !piece.isTaken && !this.#tried.has(piece.token))
    if (!isDue) return false
    // What was under way as a process died may be the reason. It runs alone, and nothing else dies with it.
    const running = [...this.#running.values()].map(other => other.piece)
    if (isSuspect(piece) || running.some(isSuspect)) return running.length === 0
    const inLane = running.filter(({ lane }) => lane === piece.lane).length
    return inLane < (this.#settings.lanes.hasAnswered(piece.lane) ? PER_LANE.answered : PER_LANE.unknown)
  }

  /** @returns milliseconds until something can begin that is worth waiting for. */
  #untilNext(): number | undefined {
    const now = Date.now()
    // What is due waits for its turn, which comes with the end of something else, if there is anything else.
    const times = this.#pieces
      .filter(piece => this.#isWorthWaiting(piece) && (piece.due > now || this.#running.size === 0))
      .map(({ due }) => Math.max(1, due - now))
    const next = Math.min(...times)
    return now + next < this.#lastBegin ? next : undefined
  }

  /** The first retries, and, when the environment ends, all of them, and what somebody had taken who has died since. */
  #isWorthWaiting({ token, attempts, lane, isTaken }: Piece): boolean {
    if (this.#missed.has(token)) return false
    if (this.#isLast) return isTaken || this.#tried.has(token)
    return this.#tried.has(token) && attempts <= QUICK_RETRIES && this.#settings.lanes.failures(lane) <= QUICK_RETRIES
  }

  async #untilChange(milliseconds: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, milliseconds)
    this.#controller.signal.addEventListener('abort', () => resolve(), { once: true })
    await Promise.race([promise, ...[...this.#running.values()].map(({ ended }) => ended)])
    clearTimeout(timer)
  }

  async #run(claim: Claim): Promise<void> {
    const { log, spool, lanes } = this.#settings
    const { piece, text, fault } = claim
    const entry = fault?.message ?? parseEntry(text)
    if (typeof entry === 'string') {
      const name = claim.setAside('corrupt')
      log.error(`an entry of the spool cannot be read (${entry}): it is set aside as ${spool}/${name}`)
      return
    }
    const bound = boundReached(entry, piece)
    if (bound !== undefined) return this.#giveUp({ entry, claim }, new Error(bound))
    const { signal } = this.#controller
    try {
      const said = await this.#attempt(entry, piece, signal)
      claim.done()
      lanes.answered(piece.lane)
      log.debug(`${describeEntry(entry)} done: ${said}attempts: ${piece.attempts}`, undefined, {
        requestId: entry.requestId,
      })
    } catch (error) {
      this.#failed({ entry, claim }, error, signal.aborted)
    }
  }

  async #attempt({ work, key, requestId, tenantId }: Entry, { attempts }: Piece, signal: AbortSignal): Promise<string> {
    if (work.kind === 'request') return `${await this.#requests.send(work, key, signal)}, `
    const { jobsModule } = this.#settings
    if (jobsModule === undefined) {
      throw Object.assign(new Error('POST_INVOKE_JOBS names no module of jobs here'), { isFinal: true })
    }
    const context = { idempotencyKey: key, awsRequestId: requestId, tenantId, attempt: attempts, signal }
    await this.#call(work, { ...context, file: jobsModule })
    return ''
  }

  #failed({ entry, claim }: Taken, error: unknown, isOutOfTime: boolean) {
    const { log, lanes, overflowQueueUrl } = this.#settings
    const { piece } = claim
    const { attempts, lane } = piece
    const { isUnanswered = isOutOfTime && entry.work.kind === 'request', retryAfter = undefined } =
      !isOutOfTime && error instanceof RequestFailure ? error : {}
    const now = Date.now()
    const due = now + delayAfter(attempts, entry.work.retry, retryAfter)
    if (isUnanswered) lanes.failed(lane, now + delayAfter(lanes.failures(lane) + 1, entry.work.retry))
    else if (error instanceof RequestFailure) lanes.answered(lane)
    const reason = isOutOfTime ? outOfTime(entry, now - this.#beganAt) : (error as Error)
    if (isOutOfTime && (overflowQueueUrl !== undefined || this.#isLast)) {
      this.#unfinished.push(titleOf(entry))
      if (overflowQueueUrl !== undefined) this.#forQueue.push({ entry, claim })
      else claim.postpone(due)
      return
    }
    if ((!isOutOfTime && isFinal(error)) || boundReached(entry, { ...piece, attempts: attempts + 1 }) !== undefined) {
      return this.#giveUp({ entry, claim }, reason)
    }
    claim.postpone(due)
    if (isOutOfTime) this.#unfinished.push(titleOf(entry))
    else {
      log.debug(
        `${describeEntry(entry)} failed in attempt ${attempts}, and is tried again in ${Math.ceil((due - now) / 1_000)} s or later: ${reason.message}`,
        undefined,
        { requestId: entry.requestId },
      )
    }
  }

  /** Past a bound, or where to try again would change nothing. */
  #giveUp({ entry, claim }: Taken, reason: Error) {
    const { log, overflowQueueUrl, spool } = this.#settings
    const { attempts } = claim.piece
    let what: string
    if (overflowQueueUrl === undefined) what = `set aside as ${spool}/${claim.setAside('failed')}`
    else {
      what = 'it goes to the overflow queue'
      this.#forQueue.push({ entry, claim, isGivenUp: true })
    }
    const message = `${reason.message}, attempts: ${attempts}; ${what}`
    const failure = Object.assign(new Error(message), {
      stack: (reason.stack ?? reason.message).replace(reason.message, () => message),
    })
    log.error(`${describeEntry(entry)} failed:`, failure, { requestId: entry.requestId })
  }

  /** What the queue has taken is no longer ours. */
  async #overflow(overflowQueueUrl: string): Promise<void> {
    const { log } = this.#settings
    const unbegun = this.#unbegun().flatMap((piece): ForQueue[] => {
      const claim = piece.isTaken ? undefined : this.#spool.take(piece, this.#leaseEnd)
      if (!claim) return []
      const entry = parseEntry(claim.text)
      if (typeof entry === 'object') return [{ entry, claim, isUnbegun: true }]
      claim.giveBack() // A run says what is wrong with it.
      return []
    })
    const all = [...this.#forQueue.splice(0), ...unbegun]
    if (all.length === 0) return
    let sent = new Set<string>()
    try {
      const messages = all.map(({ entry, claim }) => ({ ...entry, text: claim.text }))
      // What is left of the time, and as much as it takes where none of it was used up.
      const milliseconds = Math.max(0, Math.round(this.#end - Date.now()))
      sent = await sendToQueue(overflowQueueUrl, taskRoot(), messages, AbortSignal.timeout(milliseconds))
      log.debug(`${sent.size} of ${all.length} pieces of handed-off work went to the overflow queue`)
    } catch (error) {
      log.error('handed-off work could not be sent to the overflow queue', error)
    }
    for (const { entry, claim, isGivenUp, isUnbegun } of all) {
      const index = this.#unfinished.indexOf(titleOf(entry))
      if (sent.has(entry.id)) {
        claim.done()
        if (index >= 0) this.#unfinished.splice(index, 1)
      } else if (isGivenUp) claim.setAside('failed')
      else if (isUnbegun) claim.giveBack()
      else claim.postpone(Date.now() + delayAfter(claim.piece.attempts, entry.work.retry))
    }
  }

  /** What there was no time to begin. */
  #unbegun(): Piece[] {
    const now = Date.now()
    if (now < this.#lastBegin) return []
    return this.#spool.list().filter(({ token, due }) => !this.#tried.has(token) && (due <= now || this.#isLast))
  }

  async #nameWhatIsLeft(): Promise<void> {
    const left = this.#unbegun()
    const names = [...this.#unfinished]
    for (const piece of left) {
      if (names.length >= MAX_NAMED) break
      const entry = parseEntry(this.#spool.peek(piece) ?? '')
      if (typeof entry === 'object') names.push(titleOf(entry))
      // Whoever waits for us, and no longer than until the end, has its turn.
      await new Promise<void>(resolve => setImmediate(resolve))
    }
    const unnamed = this.#unfinished.length + left.length - names.length
    for (let index = 0; index < names.length; index += MAX_NAMES) {
      const isEnd = index + MAX_NAMES >= names.length
      const some =
        names.slice(index, index + MAX_NAMES).join(', ') + (isEnd && unnamed > 0 ? ` and ${unnamed} more` : '')
      if (this.#isLast) {
        this.#settings.log.error(
          `the environment ends before handed-off work was done: ${some}. It is lost, unless Lambda starts the function here anew.`,
        )
      } else {
        this.#settings.log.warn(
          `time was up before handed-off work was done: ${some}. It stays in the spool for what runs next in this environment, if anything does.`,
        )
      }
    }
  }

  #nameWhatIsStrange() {
    const { named, spool, log } = this.#settings
    for (const [name, why] of this.#spool.strange) {
      if (named.has(name) || named.size >= MAX_NAMES) continue
      named.add(name)
      const path = name === '' ? spool : `${spool}/${JSON.stringify(name.slice(0, 100))}`
      log.error(`what lies at ${path} is not run, and left there: ${why}`)
    }
  }
}

/** `piece`: with the attempt that is to be made. @returns why it is not made. */
const boundReached = ({ work, maxAge = MAX_AGE_MS }: Entry, piece: Piece): string | undefined => {
  const maxRetries = Math.min(work.retry?.maxRetries ?? RETRY.maxRetries, MAX_RETRIES)
  const age = Date.now() - piece.accepted
  if (piece.deaths >= MAX_DEATHS) return `the process that ran it has died ${piece.deaths} times`
  if (piece.attempts > maxRetries + 1) return 'its last attempt has died with its process'
  if (piece.attempts > 1 && age > maxAge) return `it was handed off ${Math.round(age / 1_000)} s ago`
  return undefined
}

const outOfTime = ({ work }: Entry, milliseconds: number): Error =>
  new Error(
    `${work.kind === 'request' ? 'no answer' : 'no end'} within the ${Math.round(milliseconds)} ms that a hold has for handed-off work (POST_INVOKE_HAND_OFF_BUDGET)`,
  )

const titleOf = ({ name, requestId }: Entry) => `${JSON.stringify(name)} of request ${requestId}`

const describeEntry = (entry: Entry) => `handed-off work ${titleOf(entry)}`
