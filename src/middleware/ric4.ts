// The runtime client of nodejs24.x. Each invocation is `await awslambda.InvokeStore.run(store, fn)`, and the promise settles
// once the response is posted. https://github.com/aws/aws-lambda-invoke-store-js
// It asks for its next invocation when that promise has settled: one that settles later holds the environment (the gate).
import { isManagedInstances } from '../variables.ts'
import { type RuntimeClient, type RuntimeClientOptions, type Scope, watchProperty } from './runtime-client.ts'
import { isThenable } from './waits.ts'

type InvokeStore = {
  hasContext?(): boolean
  run(this: InvokeStore, context: unknown, fn: () => unknown): unknown
  getRequestId(): string | undefined
}
type AwsLambda = { InvokeStore?: InvokeStore; streamifyResponse?: unknown }
type AwsLambdaGlobal = typeof globalThis & { awslambda?: AwsLambda }

/** @aws/lambda-invoke-store, which other libraries bring along, creates the same global without `streamifyResponse`. */
export const isRic4 = (): boolean => typeof awsLambda()?.streamifyResponse === 'function'

const awsLambda = () => (globalThis as AwsLambdaGlobal).awslambda

export function observeRic4(options: RuntimeClientOptions): RuntimeClient {
  const { onEnd } = options
  const scopes = options.scopes()
  const global = awsLambda() as AwsLambda
  /** By request id, the invocations whose `run` has not ended. */
  const running = new Set<string | undefined>()
  let unfinished = 0
  let broken = false

  function forget({ requestId }: Scope) {
    unfinished--
    running.delete(requestId)
  }

  function observe(store: InvokeStore | undefined) {
    if (typeof store?.run !== 'function') return
    const observed = store // for TypeScript: declared functions do not know that it has been looked at
    const { run } = store
    store.run = function (context, fn) {
      // A run inside a run is the user's own. Were it to wait for the tasks, the handler would wait for itself.
      if (scopes.getStore() !== undefined) return run.call(this, context, fn)
      const scope: Scope = { requestId: undefined, invocation: undefined, isRun: true }
      unfinished++
      function begin() {
        const requestId = requestIdIn(observed)
        // A second one for the same id is the user's own too, from a callback that has lost its context.
        if (requestId !== undefined && !running.has(requestId)) {
          running.add(requestId)
          scope.requestId = requestId
        }
        return fn()
      }
      async function end() {
        try {
          if (scope.requestId !== undefined) await onEnd(scope.requestId)
        } finally {
          forget(scope)
        }
      }
      let result: unknown
      try {
        result = scopes.run(scope, () => run.call(this, context, begin))
      } finally {
        if (!isThenable(result)) forget(scope) // no client's: theirs is asynchronous
      }
      if (!isThenable(result)) return result
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
  watchProperty(
    global,
    'InvokeStore',
    () => current,
    store => {
      current = store
      observe(store)
    },
  )

  function isInside(requestId: string) {
    const scope = scopes.getStore()
    return scope?.isRun === true && scope.requestId === requestId
  }
  return {
    hasGate: true,
    tellsEnds: true,
    firstUsedIn: current?.hasContext?.() ? requestIdIn(current) : undefined,
    mayCrash: false,
    isBusy: () => unfinished > 0,
    willTell: isInside,
    isGated(requestId) {
      if (!isInside(requestId)) return false
      // A client that waited for us would not have begun this one.
      if (running.size > 1 && !broken && !isManagedInstances(options.variables)) {
        broken = true
        options.onBrokenGate()
      }
      return !broken
    },
  }
}

/** Asked of the store and not read off the context: its keys differ between versions. */
function requestIdIn(store: InvokeStore): string | undefined {
  try {
    return store.getRequestId()
  } catch {
    return undefined
  }
}
