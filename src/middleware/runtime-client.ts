// What the runtime client (AWS calls it RIC) tells of an invocation, without knowing that it does: when its response has
// been posted. Its two generations tell by different things, and some tell nothing: then the hooks have to do.
import type { AsyncLocalStorage } from 'node:async_hooks'
import { isManagedInstances as isOnManagedInstances } from '../variables.ts'
import type { ResponseStreams } from './response-streams.ts'

/** One invocation as the runtime client runs it, the value of our AsyncLocalStorage. */
export type Scope<Invocation> = {
  requestId: string | undefined
  invocation: Invocation | undefined
  /** Of the handler in which this one was called, with another context. */
  readonly outer?: Scope<Invocation> | undefined
  /** Whether the runtime client made it, and not we. */
  readonly isRun?: true
}

export type RuntimeClient = {
  /** Whether `InvokeStore.run` can hold the environment, or why not although the environment says so. */
  readonly gate: { available: true; anomaly?: undefined } | { available: false; anomaly?: string }
  /** Whether it tells the end of each invocation, also of those that never reach our `before`. */
  readonly tellsEnds: boolean
  /** The invocation in which this was looked at for the first time: its end is not told. `undefined` during init. */
  readonly firstUsedIn: string | undefined
  /**
   * Whether it posts uncaught errors on the connection on which it waits for the next invocation. That can end the process
   * by SIGSEGV, with no `exit` event.
   */
  readonly mayCrash: boolean
  /** Whether it is at an invocation and so not waiting for the next one; `undefined` where it does not tell. */
  isBusy(): boolean | undefined
  /** Whether the end of this invocation will be told. Asked while its handler runs. */
  willTell(requestId: string): boolean
  /** Whether this invocation runs inside an `InvokeStore.run` that waits for our promise. Asked while its handler runs. */
  isGated(requestId: string): boolean
}

export type RuntimeClientOptions<Invocation> = {
  scopes: AsyncLocalStorage<Scope<Invocation>>
  streams: Pick<ResponseStreams, 'has'>
  variables: Readonly<Record<string, string | undefined>>
  /**
   * Called once the response of a request has been posted, or its failure. What it returns keeps the environment awake
   * where the gate is in use.
   */
  onEnd(requestId: string): Promise<void> | undefined
  /** Called when a client that should wait for our promise turns out not to. */
  onBrokenGate(): void
}

/**
 * Whether this process has no runtime client although it is in one of Lambda's Node.js runtimes, whose clients both tell
 * of themselves. Then it is a child of the function's process.
 */
export const lacksItsClient = (variables: Readonly<Record<string, string | undefined>>): boolean =>
  variables.AWS_LAMBDA_RUNTIME_API !== undefined &&
  /^AWS_Lambda_nodejs/.test(variables.AWS_EXECUTION_ENV ?? '') &&
  variables.AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA === undefined &&
  !(BEFORE_EXIT in globalThis) &&
  typeof (globalThis as AwsLambdaGlobal).awslambda?.streamifyResponse !== 'function'

/** Looks at what is there at init and listens to it. */
export const observeRuntimeClient = <Invocation>(options: RuntimeClientOptions<Invocation>): RuntimeClient => {
  const { variables } = options
  if (variables.AWS_LAMBDA_RUNTIME_API === undefined) return silentClient(undefined)

  const nodeVersion = Number(/^AWS_Lambda_nodejs(\d+)/.exec(variables.AWS_EXECUTION_ENV ?? '')?.[1])
  const saysRic4 = nodeVersion >= 24
  if (BEFORE_EXIT in globalThis) {
    const firstUsedIn = (globalThis as Ric3Global)[REQUEST_ID]
    // What it sets outside an invocation is not known now, and by that alone an end can be told.
    if (firstUsedIn !== undefined) return { ...silentClient(undefined), firstUsedIn, mayCrash: true }
    return observeRic3(
      options,
      saysRic4
        ? 'AWS_EXECUTION_ENV names Node.js 24 or later, but the runtime client is of the generation before'
        : undefined,
    )
  }
  const global = (globalThis as AwsLambdaGlobal).awslambda
  // RIC 4 defines streamifyResponse before it loads the function. @aws/lambda-invoke-store, which other libraries bring
  // along, creates the same global without it.
  if (typeof global?.streamifyResponse === 'function') return observeRic4(global, options)
  return silentClient(
    saysRic4 ? 'AWS_EXECUTION_ENV names Node.js 24 or later, but the global awslambda is switched off' : undefined,
  )
}

const silentClient = (anomaly: string | undefined): RuntimeClient => ({
  gate: { available: false, ...(anomaly && { anomaly }) },
  tellsEnds: false,
  firstUsedIn: undefined,
  mayCrash: false,
  isBusy: () => undefined,
  willTell: () => false,
  isGated: () => false,
})

// --- RIC 4: each invocation is `await awslambda.InvokeStore.run(store, fn)`, and the promise settles once the response is
// posted. https://github.com/aws/aws-lambda-invoke-store-js

type InvokeStore = {
  hasContext?(): boolean
  run(this: InvokeStore, context: unknown, fn: () => unknown): unknown
  getRequestId(): string | undefined
}
type AwsLambda = { InvokeStore?: InvokeStore; streamifyResponse?: unknown }
type AwsLambdaGlobal = typeof globalThis & { awslambda?: AwsLambda }

const observeRic4 = <Invocation>(global: AwsLambda, options: RuntimeClientOptions<Invocation>): RuntimeClient => {
  const { scopes, onEnd } = options
  const isManagedInstances = isOnManagedInstances(options.variables)
  /** By request id, the invocations whose `run` has not ended. */
  const running = new Set<string>()
  let unfinished = 0
  let broken = false

  const observe = (store: InvokeStore | undefined) => {
    if (typeof store?.run !== 'function') return
    const { run } = store
    store.run = function (context, fn) {
      // A run inside a run is the user's own. Were it to wait for the tasks, the handler would wait for itself.
      if (scopes.getStore() !== undefined) return run.call(this, context, fn)
      const scope: Scope<Invocation> = { requestId: undefined, invocation: undefined, isRun: true }
      unfinished++
      const end = async () => {
        try {
          if (scope.requestId !== undefined) await onEnd(scope.requestId)
        } finally {
          unfinished--
          if (scope.requestId !== undefined) running.delete(scope.requestId)
        }
      }
      let result: Promise<unknown> | undefined
      try {
        result = scopes.run(scope, () =>
          run.call(this, context, () => {
            const requestId = requestIdIn(store)
            // A second one for the same id is the user's own too, from a callback that has lost its context.
            if (requestId !== undefined && !running.has(requestId)) {
              running.add(requestId)
              scope.requestId = requestId
            }
            return fn()
          }),
        ) as Promise<unknown>
      } finally {
        // No client's: theirs is asynchronous.
        if (typeof result?.then !== 'function') {
          unfinished--
          if (scope.requestId !== undefined) running.delete(scope.requestId)
        }
      }
      if (typeof result?.then !== 'function') return result
      return result.then(
        value => end().then(() => value),
        error =>
          end().then(() => {
            throw error
          }),
      )
    }
  }

  // The store is there already (aws-lambda-ric 4.0 needs it for its logs), or made at the first invocation.
  let current = global.InvokeStore
  observe(current)
  Object.defineProperty(global, 'InvokeStore', {
    configurable: true,
    enumerable: true,
    get: () => current,
    set: (store: InvokeStore | undefined) => {
      current = store
      observe(store)
    },
  })

  const isInside = (requestId: string) => {
    const scope = scopes.getStore()
    return scope?.isRun === true && scope.requestId === requestId
  }
  return {
    gate: { available: true },
    tellsEnds: true,
    firstUsedIn: current?.hasContext?.() ? requestIdIn(current) : undefined,
    mayCrash: false,
    isBusy: () => unfinished > 0,
    willTell: isInside,
    isGated(requestId) {
      if (!isInside(requestId)) return false
      // A client that waited for us would not have begun this one.
      if (running.size > 1 && !isManagedInstances && !broken) {
        broken = true
        options.onBrokenGate()
      }
      return !broken
    },
  }
}

/** Asked of the store and not read off the context: its keys differ between versions. */
const requestIdIn = (store: InvokeStore): string | undefined => {
  try {
    return store.getRequestId()
  } catch {
    return undefined
  }
}

// --- RIC 3: what it does when the event loop is empty stands in a global. It is set as an invocation begins and reset
// in the same turn in which the response is posted, after all that may be wrapped around the handler.

const BEFORE_EXIT = Symbol.for('aws.lambda.beforeExit')
const REQUEST_ID = Symbol.for('aws.lambda.runtime.requestId')
type Ric3Global = { [BEFORE_EXIT]?: () => void; [REQUEST_ID]?: string }

const observeRic3 = <Invocation>(
  options: RuntimeClientOptions<Invocation>,
  anomaly: string | undefined,
): RuntimeClient => {
  const global = globalThis as Ric3Global
  let listener = global[BEFORE_EXIT]
  const idle = listener // outside an invocation, as now at init, it does nothing
  let requestId: string | undefined

  const end = () => {
    if (requestId === undefined) return
    // Set again in the same turn: the client now waits for an empty event loop. A callback's response is posted after
    // that; a stream has left before, and the client only asks for the next invocation later.
    if (listener !== idle && !options.streams.has(requestId)) return
    const ended = requestId
    requestId = undefined
    options.onEnd(ended)
  }
  const endAfterEmptyLoop = () => {
    listener = idle
    end()
  }
  Object.defineProperty(global, BEFORE_EXIT, {
    configurable: true,
    enumerable: true,
    get: () => listener,
    set(next: (() => void) | undefined) {
      if (next === idle || typeof next !== 'function') {
        listener = next
        setImmediate(end) // the post follows in this same turn of the event loop
        return
      }
      requestId = global[REQUEST_ID]
      listener = () => {
        next() // the event loop has run empty: a callback's response is posted in the next turn
        setImmediate(() => setImmediate(endAfterEmptyLoop))
      }
    },
  })

  return {
    gate: { available: false, ...(anomaly && { anomaly }) },
    tellsEnds: true,
    firstUsedIn: undefined,
    mayCrash: true,
    isBusy: () => requestId !== undefined,
    willTell: id => requestId === id && listener !== idle,
    isGated: () => false,
  }
}
