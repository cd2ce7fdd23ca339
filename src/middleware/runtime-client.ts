// What can be observed of Lambda's runtime client (AWS calls it RIC): when the response of an invocation has been posted.
// Its two generations tell by different things (ric3.ts, ric4.ts), and some tell nothing: then the hooks have to do.
import type { AsyncLocalStorage } from 'node:async_hooks'
import type { Invocation } from './invocation.ts'
import type { ResponseStreams } from './response-streams.ts'

/** One invocation as the runtime client runs it, the value of our AsyncLocalStorage. */
export type Scope = {
  requestId: string | undefined
  invocation: Invocation | undefined
  /** Of the handler in which this one was called, with another context. */
  readonly outer?: Scope | undefined
  /** Whether the runtime client made it, and not we. */
  readonly isRun?: true
}

export type RuntimeClient = {
  /** Whether `InvokeStore.run` can hold the environment. */
  readonly hasGate: boolean
  /** Whether it tells the end of each invocation, also of those that never reach our `before`. */
  readonly tellsEnds: boolean
  /** The request in which `postInvoke()` was first called, if not during init: the end of that one cannot be observed. */
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

export type RuntimeClientOptions = {
  scopes(): AsyncLocalStorage<Scope>
  readonly streams: Pick<ResponseStreams, 'has'>
  readonly variables: Readonly<Record<string, string | undefined>>
  /**
   * Called once the response of a request has been posted, or its failure. What it returns keeps the environment awake
   * where the gate is in use.
   */
  onEnd(requestId: string): Promise<void> | undefined
  /** Called when a client that should wait for our promise turns out not to. */
  onBrokenGate(): void
}

/**
 * Has a property of what the runtime client left in this process read and set by us. Another version of this package may
 * watch it too: it is told of each value.
 *
 * @returns what that other one has there, `undefined` without one.
 */
export function watchProperty<Value>(
  object: object,
  key: PropertyKey,
  get: () => Value,
  set: (value: Value) => void,
): () => Value | undefined {
  const other = Object.getOwnPropertyDescriptor(object, key)
  Object.defineProperty(object, key, {
    configurable: true,
    enumerable: true,
    get,
    set(value: Value) {
      other?.set?.call(object, value)
      set(value)
    },
  })
  return () => other?.get?.call(object)
}

/** One that tells nothing. */
export const silentClient: RuntimeClient = {
  hasGate: false,
  tellsEnds: false,
  firstUsedIn: undefined,
  mayCrash: false,
  isBusy: () => undefined,
  willTell: () => false,
  isGated: () => false,
}
