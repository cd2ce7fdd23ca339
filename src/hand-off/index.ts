/**
 * Work written down as data, which outlives the function's process: requests, and calls of the functions of one module.
 *
 * @packageDocumentation
 */
// What is here only writes it down. The layer's companion runs it; where there is none, this process does.

import type { Context } from 'aws-lambda'
import { builtIn } from '../built-in.ts'
import { PostInvokeError } from '../errors.ts'
import type { Log } from '../log.ts'
import type { Invocation } from '../middleware/invocation.ts'
import {
  existingProcess,
  HANDED_OFF,
  type HandedOffWork,
  invocationFinder,
  OPENED,
  type OpenedInvocation,
} from '../middleware/process.ts'
import {
  isManagedInstances,
  readHandOffBudget,
  readJobsModule,
  readOverflowQueue,
  readSpool,
  taskRoot,
} from '../variables.ts'
import { ENTRY_VERSION, type Entry, MAX_ENTRY_BYTES } from './entry.ts'
import { findRunner, type LoadRunner } from './find-runner.ts'
import type { JsonValue } from './json.ts'
import { findSqsClient } from './overflow.ts'
import type { Runner } from './runner.ts'
import { hasWaiting, SpoolWriter } from './spool.ts'
import {
  invalidWork,
  type JobOptions,
  type RequestOptions,
  type RequestToHandOff,
  type RequestWithoutBody,
  validateJob,
  validateRequest,
} from './validate.ts'

export type { DispatcherOptions, RetryOptions } from './entry.ts'
export type { JobContext } from './find-job.ts'
export type { JsonValue } from './json.ts'
export type { HeadersToHandOff, JobOptions, RequestOptions, RequestToHandOff, RequestWithoutBody } from './validate.ts'

/** A jobs module: its exported functions are jobs. For instance `typeof import('./jobs.ts')`. */
export type Jobs = object

/** The names of the jobs of a module. */
export type JobName<Module extends Jobs> = {
  [Name in keyof Module]: Module[Name] extends (...given: any) => unknown ? Name : never
}[keyof Module] &
  string

/** What a job is given after its name: the payload, where its first parameter asks for one, and options. */
export type JobArguments<Function> = Function extends (...given: infer Given) => unknown
  ? Given extends readonly []
    ? [payload?: undefined, options?: JobOptions]
    : undefined extends Given[0]
      ? [payload?: Given[0], options?: JobOptions]
      : [payload: Given[0], options?: JobOptions]
  : never

/**
 * Hands work off: it is written down before this returns, and runs after the response, at least once, also if the
 * function's process dies meanwhile.
 *
 * @throws PostInvokeError `ERR_INVALID_HAND_OFF` for what is no work, `ERR_SPOOL` when it cannot be written down,
 * `ERR_NO_RUNNER` where nothing would run it, `ERR_NO_INVOCATION` outside an invocation.
 */
export type HandOff<Module extends Jobs = Record<string, (payload?: JsonValue) => unknown>> = {
  /** An HTTP request. */
  (request: RequestToHandOff | RequestWithoutBody, options?: RequestOptions): void
  /** A call of a function of the jobs module (`POST_INVOKE_JOBS`). */
  <Name extends JobName<Module>>(job: Name, ...payload: JobArguments<Module[Name]>): void
}

/** What the middleware adds to the context. */
export type HandOffContext<Module extends Jobs = Record<string, (payload?: JsonValue) => unknown>> = {
  handOff: HandOff<Module>
}

/** A middleware, by the shape that Middy gives it: `handOff()` is there without Middy, too, and so are these types. */
export type HandOffMiddleware<Module extends Jobs> = {
  /** Puts `handOff` on the context. */
  before: (request: {
    event: unknown
    context: HandOffContext<Module> & Context
    response: any
    error: Error | null | undefined
    internal: Record<never, unknown>
  }) => void
}

const currentInvocation = /* @__PURE__ */ invocationFinder()

/**
 * `context.handOff()` for code that has no context at hand. It belongs to the invocation in which it is called.
 *
 * @example
 * ```ts
 * import { handOff } from 'middy-post-invoke/hand-off'
 *
 * handOff({ url: 'https://collector.example/events', body: JSON.stringify({ event: 'order' }) })
 * ```
 */
export const handOff: HandOff<any> = (work: unknown, ...rest: unknown[]): void => {
  const invocation = currentInvocation()
  if (!invocation) {
    throw new PostInvokeError(
      'ERR_NO_INVOCATION',
      'Expected handOff() to be called inside an invocation of a handler with the postInvoke() middleware, got a call outside of any. Call it in the handler, after `.use(postInvoke())`.',
    )
  }
  accept(invocation, work, rest)
}

/**
 * `handOff()` typed by a jobs module, for code that has no context at hand: `createHandOff<typeof import('./jobs.ts')>()`.
 *
 * @returns `handOff()`, which accepts the names and payloads of that module's jobs.
 */
export const createHandOff = <Module extends Jobs>(): HandOff<Module> => handOff as HandOff<Module>

/**
 * The middleware that puts `handOff` on the context, typed by a jobs module. Use it after `postInvoke()`.
 *
 * @returns the middleware, for `.use()`.
 * @throws PostInvokeError `ERR_INVALID_VARIABLE` for a wrong environment variable, `ERR_NO_RUNNER` where no layer runs the
 * work and `middy-post-invoke/hand-off/embedded` is not imported.
 *
 * @example
 * ```ts
 * import middy from '@middy/core'
 * import postInvoke from 'middy-post-invoke'
 * import withHandOff from 'middy-post-invoke/hand-off'
 *
 * type Jobs = { sendMail(mail: { to: string }): Promise<void> }
 *
 * export const handler = middy()
 *   .use(postInvoke())
 *   .use(withHandOff<Jobs>())
 *   .handler(async (_event, context) => {
 *     context.handOff('sendMail', { to: 'anna@shop.example' })
 *   })
 * ```
 */
const withHandOff = <
  Module extends Jobs = Record<string, (payload?: JsonValue) => unknown>,
>(): HandOffMiddleware<Module> => {
  work.configure()
  // Outside Lambda the imports of a test may still follow.
  if (process.env.AWS_LAMBDA_RUNTIME_API !== undefined) work.checkRunner()
  const handOffMiddlewareBefore: HandOffMiddleware<Module>['before'] = request => {
    const opened = (request.internal as { [OPENED]?: OpenedInvocation })[OPENED]
    if (!opened) {
      throw new PostInvokeError(
        'ERR_NO_INVOCATION',
        'Expected the middleware of middy-post-invoke/hand-off to be used after postInvoke(), which opens the invocation.',
      )
    }
    request.context.handOff = handOffIn(opened.invocation) as HandOff<Module>
  }
  return { before: handOffMiddlewareBefore }
}

export default withHandOff

/** Made here and not where it is assigned: see runTask() in deferred-task.ts. */
const handOffIn = (invocation: Invocation) =>
  ((work: unknown, ...rest: unknown[]) => accept(invocation, work, rest)) as HandOff<any>

function accept(invocation: Invocation, given: unknown, rest: readonly unknown[]): void {
  const { requestId, tenantId } = invocation
  if (invocation.isSettled()) {
    throw new PostInvokeError(
      'ERR_NO_INVOCATION',
      `Expected handOff() to be called before its invocation ends, got a call after request ${requestId} had settled. Await what hands off, in the handler or in a task.`,
    )
  }
  if (typeof given === 'string') work.checkJobs()
  const { key, ...valid } =
    typeof given === 'string' ? validateJob(given, rest[0], rest[1]) : validateRequest(given, rest[0])
  const { hash, number } = countEqual(invocation, valid.work)
  const id = `${requestId}-${hash}-${number}`
  const text = JSON.stringify({
    version: ENTRY_VERSION,
    key: key ?? id,
    id,
    requestId,
    tenantId,
    ...valid,
  } satisfies Entry)
  if (Buffer.byteLength(text) > MAX_ENTRY_BYTES) {
    throw invalidWork(
      `Expected handed-off work of at most ${MAX_ENTRY_BYTES} bytes as JSON, got ${Buffer.byteLength(text)}. Store what is large, and hand off where it is`,
      undefined,
    )
  }
  work.checkRunner()
  work.write(text, laneOf(valid.work), invocation)
  handedOff.get(invocation)?.set(hash, number)
  existingProcess()?.onDefer()
}

/**
 * What is to be done, and how often that has been handed off: Lambda's retry of an invocation, which has the same request
 * id, gives the same work the same key, in whichever order it hands off.
 */
function countEqual(invocation: Invocation, work: Entry['work']): { hash: string; number: number } {
  const hash = hashOf(
    work.kind === 'request'
      ? [work.method, work.url, work.headers, work.body, work.isBase64]
      : ['job', work.job, work.payload],
  )
  const counts = handedOff.get(invocation) ?? new Map<string, number>()
  handedOff.set(invocation, counts)
  return { hash, number: (counts.get(hash) ?? 0) + 1 }
}

/** Of each invocation: how often which work. */
const handedOff = new WeakMap<Invocation, Map<string, number>>()

/** Pieces with the same one share what is known of their receiver. */
const laneOf = (work: Entry['work']): string =>
  hashOf(work.kind === 'request' ? ['origin', new URL(work.url).origin] : ['job', work.job]).slice(0, 8)

/**
 * Sixteen hexadecimal digits. No cryptographic hash, which takes most of 10 ms to load before the answer: two contents with
 * one hash are numbered like equal ones, and each has a key of its own.
 */
function hashOf(values: unknown[]): string {
  let [a, b] = [0x9e3779b9, 0x85ebca6b]
  const text = JSON.stringify(values)
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index)
    a = Math.imul(a ^ code, 0x9e3779b1)
    b = Math.imul(b ^ code, 0x5f356495)
  }
  // Each half takes in what the other one has, so that a change of one character changes both.
  const mix = (one: number, other: number) => {
    const mixed = Math.imul(one ^ (one >>> 16), 0x85ebca6b) ^ Math.imul(other ^ (other >>> 13), 0xc2b2ae35)
    return ((mixed ^ (mixed >>> 15)) >>> 0).toString(16).padStart(8, '0')
  }
  return mix(a, b) + mix(b, a)
}

/** The spool of this process, and what runs it where the layer does not. */
class LocalWork {
  #spool: string | undefined
  #writer: SpoolWriter | undefined
  #jobs: string | undefined
  #overflow: string | undefined
  #budget: number | undefined
  #isConfigured = false
  #runner: Promise<Runner> | undefined
  readonly #keptBack = new Map<Invocation, (() => void)[]>()
  readonly #answered = new WeakSet<Invocation>()

  /** Reads the variables: what is wrong there is to fail the function's init. */
  configure(): void {
    if (this.#isConfigured) return
    this.#spool = readSpool()
    this.#jobs = readJobsModule()
    this.#overflow = readOverflowQueue()
    this.#budget = readHandOffBudget()
    if (this.#overflow !== undefined) findSqsClient(taskRoot())
    this.#isConfigured = true
  }

  /** Where the layer does not run what is handed off, this process has to. */
  checkRunner(): void {
    if (findRunner() || existingProcess()?.companion.isTheLayer !== false) return
    throw new PostInvokeError(
      'ERR_NO_RUNNER',
      'Expected the layer, or an import of middy-post-invoke/hand-off/embedded, to run handed-off work, got neither.',
    )
  }

  checkJobs(): void {
    this.configure()
    if (this.#jobs !== undefined) return
    throw invalidWork(
      'Expected the variable POST_INVOKE_JOBS to name the module of the jobs, before one is handed off',
      undefined,
    )
  }

  write(text: string, lane: string, invocation: Invocation): void {
    this.configure()
    this.#writer ??= new SpoolWriter(this.#spool as string)
    // Where invocations run side by side, each runs what waits: work of one must wait for its own response.
    const isKeptBack = isManagedInstances() && !this.#answered.has(invocation)
    const release = this.#writer.add(text, lane, isKeptBack)
    if (!isKeptBack) return
    const all = this.#keptBack.get(invocation)
    if (all) all.push(release)
    else this.#keptBack.set(invocation, [release])
  }

  run(log: Log, deadline: number, isLast?: boolean, invocation?: Invocation): Promise<void> | undefined {
    this.configure()
    if (invocation) this.#release(log, invocation)
    if (isLast) for (const one of this.#keptBack.keys()) this.#release(log, one)
    // Without one the layer runs it, with the next invocation.
    const load = findRunner()
    return load && hasWaiting(this.#spool as string, isLast) ? this.#run(load, log, deadline, isLast) : undefined
  }

  #release(log: Log, invocation: Invocation) {
    this.#answered.add(invocation)
    for (const release of this.#keptBack.get(invocation) ?? []) {
      try {
        release()
      } catch (error) {
        log.error(`handed-off work of request ${invocation.requestId} cannot be run yet`, error)
      }
    }
    this.#keptBack.delete(invocation)
  }

  async #run(load: LoadRunner, log: Log, deadline: number, isLast?: boolean): Promise<void> {
    // The client asks for its next invocation first, where it is not us that it waits for.
    await new Promise<void>(resolve => setImmediate(resolve))
    try {
      this.#runner ??= load().then(({ createRunner }) =>
        createRunner({
          spool: this.#spool as string,
          log,
          // A job may end its thread, and never the function's process. Outside Lambda it sees what a test has mocked.
          isolatesJobs: process.env.AWS_LAMBDA_RUNTIME_API !== undefined,
          overflowQueueUrl: this.#overflow,
          jobsModule: this.#jobs,
          budget: this.#budget,
        }),
      )
      await (await this.#runner).run(deadline, isLast)
      if (process.env.AWS_LAMBDA_RUNTIME_API === undefined) removeIfEmpty(this.#spool as string)
    } catch (error) {
      this.#runner = undefined
      log.error('handed-off work cannot be run; it stays in the spool', error)
    }
  }
}

/** Outside Lambda each process has its own, and nobody else to tidy up. */
const removeIfEmpty = (folder: string) => {
  try {
    builtIn('node:fs').rmdirSync(folder)
  } catch {}
}

const work = new LocalWork()
if (process.env.AWS_LAMBDA_RUNTIME_API !== undefined) work.configure()

;(globalThis as { [HANDED_OFF]?: HandedOffWork })[HANDED_OFF] = work
existingProcess()?.companion.expectHandedOff()
