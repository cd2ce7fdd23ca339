// The runtime client of nodejs24.x. Each invocation is `await awslambda.InvokeStore.run(store, fn)`, and the promise settles
// once the response is posted. https://github.com/aws/aws-lambda-invoke-store-js
// It asks for its next invocation when that promise has settled: one that settles later holds the environment (the gate).
import type { AsyncLocalStorage } from 'node:async_hooks'
import type { Log } from '../log.ts'
import { type OnEnd, type Run, type RuntimeClient, type Scope, watchProperty } from './runtime-client.ts'
import { isFunction, isThenable } from './waits.ts'

type InvokeStore = {
  hasContext?(): boolean
  run(context: unknown, fn: () => unknown): unknown
  getRequestId(): string | undefined
}
type AwsLambda = { InvokeStore?: InvokeStore; streamifyResponse?: unknown }
type AwsLambdaGlobal = typeof globalThis & { awslambda?: AwsLambda }

/** @aws/lambda-invoke-store, which other libraries bring along, creates the same global without `streamifyResponse`. */
export const isRic4 = (): boolean => !!awsLambda()?.streamifyResponse

const awsLambda = () => (globalThis as AwsLambdaGlobal).awslambda

/** @param isAlone - Whether it takes one invocation at a time. */
export function observeRic4(
  scopes: AsyncLocalStorage<Scope>,
  onEnd: OnEnd,
  isAlone: boolean,
  log: Pick<Log, 'warnOnce'>,
): RuntimeClient {
  const global = awsLambda() as AwsLambda
  /** By request id, those whose promise has not settled. */
  const runs = new Map<string, Run>()
  let isBroken = false

  // The store is there already (aws-lambda-ric 4.0 needs it for its logs), or made at the first invocation.
  const atFirst = global.InvokeStore
  observe(atFirst)
  watchProperty(global, 'InvokeStore', observe)

  function observe(store: InvokeStore | undefined) {
    if (!isFunction(store?.run)) return
    const { run } = store
    store.run = (context, fn) =>
      // A run inside a run is the user's own. Were it to wait for the tasks, the handler would wait for itself.
      run.call(store, context, scopes.getStore() ? fn : () => begin(store, fn))
  }

  function begin(store: InvokeStore, fn: () => unknown): unknown {
    const requestId = requestIdIn(store)
    // A second one for the same id is the user's own too, from a callback that has lost its context.
    if (requestId === undefined || runs.has(requestId)) return fn()
    const begun: Run = { id: requestId }
    runs.set(requestId, begun)
    let posted: unknown
    try {
      posted = scopes.run(begun, fn)
    } finally {
      if (!isThenable(posted)) runs.delete(requestId) // no client's: theirs is asynchronous
    }
    return isThenable(posted) ? untilSettled(posted, begun) : posted
  }

  async function untilSettled(posted: PromiseLike<unknown>, begun: Run): Promise<unknown> {
    try {
      return await posted
    } finally {
      await onEnd(begun)
      runs.delete(begun.id)
    }
  }

  return {
    firstUsedIn: atFirst?.hasContext?.() ? requestIdIn(atFirst) : undefined,
    runOf: requestId => runs.get(requestId as string),
    isBusy: () => runs.size > 0,
    isGated() {
      // A client that waited for us would not have begun another one.
      if (isAlone && runs.size > 1) {
        isBroken = true
        log.warnOnce('WARN_GATE', 'the runtime client does not wait for InvokeStore.run')
      }
      return !isBroken
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
