/**
 * Work written down as data, which outlives the function's process: requests, and calls of the functions of one module.
 *
 * @packageDocumentation
 */
// What is here only writes it down. The layer's companion runs it; where there is none, this process does.

import type { Context } from 'aws-lambda'
import { PostInvokeError } from '../errors.ts'
import type { Invocation } from '../middleware/invocation.ts'
import {
  existingProcess,
  HANDED_OFF,
  type HandedOffWork,
  invocationFinder,
  OPENED,
  type OpenedInvocation,
} from '../middleware/process.ts'
import { isManagedInstances } from '../variables.ts'
import { ENTRY_VERSION, type Entry, MAX_ENTRY_BYTES } from './entry.ts'
import { findRunner } from './find-runner.ts'
import type { JsonValue } from './json.ts'
import { findSqsClient } from './overflow.ts'
import { readHandOffBudget, readJobsModule, readOverflowQueue, readSpool, taskRoot } from './settings.ts'
import { createSpoolWriter } from './spool.ts'
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
      'Expected handOff() in an invocation behind postInvoke(), got a call outside.',
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
  settings()
  if (isLambda()) checkRunner() // outside of it the imports of a test may still follow
  const handOffMiddlewareBefore: HandOffMiddleware<Module>['before'] = request => {
    const opened = (request.internal as { [OPENED]?: OpenedInvocation })[OPENED]
    if (!opened) {
      throw new PostInvokeError('ERR_NO_INVOCATION', 'Expected withHandOff() behind postInvoke(), got it before.')
    }
    request.context.handOff = handOffIn(opened.invocation) as HandOff<Module>
  }
  return { before: handOffMiddlewareBefore }
}

export default withHandOff

/** Made here and not where it is assigned: see runTask() in deferred-task.ts. */
const handOffIn = (invocation: Invocation) =>
  ((work: unknown, ...rest: unknown[]) => accept(invocation, work, rest)) as HandOff<any>

function accept(invocation: Invocation, given: unknown, [payload, options]: readonly unknown[]): void {
  const { requestId, tenantId } = invocation
  if (invocation.isSettled()) {
    throw new PostInvokeError(
      'ERR_NO_INVOCATION',
      `Expected handOff() before request ${requestId} settled, got a call after.`,
    )
  }
  const { add, jobsModule } = settings()
  const isJob = typeof given === 'string'
  if (isJob && jobsModule === undefined) {
    throw invalidWork('the variable POST_INVOKE_JOBS to name the module of the jobs', jobsModule)
  }
  const { key, receiver, content, work, ...named } = isJob
    ? validateJob(given, payload, options)
    : validateRequest(given, payload)
  const hash = hashOf(content) + hashOf(content, 1) // two of 32 bits: with one, other content would have the same too often
  const counts = handedOff.get(invocation) ?? new Map<string, number>()
  const number = (counts.get(hash) ?? 0) + 1
  const id = `${requestId}-${hash}-${number}`
  const entry: Entry = { version: ENTRY_VERSION, key: key ?? id, id, requestId, tenantId, ...named, work }
  const text = JSON.stringify(entry)
  const bytes = Buffer.byteLength(text)
  if (bytes > MAX_ENTRY_BYTES) throw invalidWork(`work of at most ${MAX_ENTRY_BYTES} bytes as JSON`, bytes)
  checkRunner()
  // Where invocations run side by side, each runs what waits: work of one must wait for its own response.
  const isKeptBack = isManagedInstances() && invocation.isOpen()
  const release = add(text, hashOf(receiver), isKeptBack)
  if (isKeptBack) keptBack.set(release, invocation)
  handedOff.set(invocation, counts.set(hash, number))
  existingProcess()?.onDefer(invocation)
}

/**
 * Of each invocation: how often which work. Lambda's retry of an invocation, which has the same request id, gives the same
 * work the same key, in whichever order it hands off.
 */
const handedOff = new WeakMap<Invocation, Map<string, number>>()

/** What lets work be taken whose invocation has not answered. */
const keptBack = new Map<() => void, Invocation>()

/**
 * Eight hexadecimal digits. No cryptographic hash, which takes most of 10 ms to load before the answer: two contents with
 * one hash are numbered like equal ones, and each has a key of its own.
 */
function hashOf(text: string, seed = 0): string {
  let hash = seed
  for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 0x9e3779b1)
  return ((hash ^ (hash >>> 15)) >>> 0).toString(16).padStart(8, '0')
}

/** Where the layer does not run what is handed off, this process has to. */
function checkRunner(): void {
  if (findRunner() || (existingProcess()?.companion.name ?? 'layer') === 'layer') return
  throw new PostInvokeError(
    'ERR_NO_RUNNER',
    'Expected the layer, or an import of middy-post-invoke/hand-off/embedded, to run handed-off work, got neither.',
  )
}

const isLambda = () => process.env.AWS_LAMBDA_RUNTIME_API !== undefined

let known: ReturnType<typeof readSettings> | undefined

function settings() {
  known ??= readSettings()
  return known
}

function readSettings() {
  const overflowQueueUrl = readOverflowQueue()
  if (overflowQueueUrl !== undefined) findSqsClient(taskRoot())
  const spool = readSpool()
  return {
    spool,
    add: createSpoolWriter(spool),
    jobsModule: readJobsModule(),
    overflowQueueUrl,
    budget: readHandOffBudget(),
  }
}

const here: HandedOffWork = {
  run(log, deadline, invocation) {
    for (const [release, itsInvocation] of keptBack) {
      if (invocation && itsInvocation !== invocation) continue
      keptBack.delete(release)
      try {
        release()
      } catch (error) {
        log.error(`handed-off work of request ${itsInvocation.requestId} cannot be run yet`, error)
      }
    }
    // Without one the layer runs it, with the next invocation.
    return findRunner()?.(settings(), log, deadline, !invocation)
  },
}

if (isLambda())
  settings() // what is wrong in the variables is to fail the function's init
;(globalThis as { [HANDED_OFF]?: HandedOffWork })[HANDED_OFF] = here
existingProcess()?.companion.expectHandedOff?.()
