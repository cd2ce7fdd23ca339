// What can be observed of Lambda's runtime client (AWS calls it RIC): when an invocation begins, and when its response has
// been posted. Its two generations tell by different things (ric3.ts, ric4.ts), and some tell nothing: then the hooks have to do.
import type { Invocation } from './invocation.ts'

/** Where code runs, the value of our AsyncLocalStorage: the client's run of an invocation, or what we have entered. */
export type Scope = {
  /** Of a run: that of its request. */
  id?: string
  /** The one that was opened in it first. */
  invocation?: Invocation
  /** The scope around this one. */
  readonly outer?: Scope | undefined
}

/** An invocation as the runtime client runs it, from the event to the post of the response. */
export type Run = Scope & { id: string }

/**
 * Called once the response of a run has been posted, or its failure. What it returns keeps the environment awake where the gate
 * is in use.
 */
export type OnEnd = (run: Run) => Promise<void> | undefined

/** What is missing here, this client does not tell. */
export type RuntimeClient = {
  /** The request in which `postInvoke()` was first called, if not during init: the end of that one cannot be observed. */
  readonly firstUsedIn?: string | undefined
  /**
   * The run of a request, as long as it is not over. A client that has one at a time gives that. The end of each run is told,
   * also of those that never reach our `before`.
   */
  runOf?(requestId?: string): Run | undefined
  /** Whether it is at an invocation, and so not waiting for the next one. */
  isBusy?(): boolean
  /** Whether its runs wait for the promise of {@link OnEnd}, and so can hold the environment. Asked while a handler runs. */
  isGated?(): boolean
}

/**
 * Calls back with each value that a property is set to. Where another version of this package watches it too, its setter is
 * called as well, but its getter no longer is.
 *
 * @param read - What a reader gets of the value.
 */
export function watchProperty<Value>(
  object: object,
  key: PropertyKey,
  onSet: (value: Value) => void,
  read: (value: Value) => unknown = value => value,
): void {
  const other = Object.getOwnPropertyDescriptor(object, key)
  let value = (object as Record<PropertyKey, Value>)[key] as Value
  Object.defineProperty(object, key, {
    configurable: true,
    enumerable: true,
    get: () => read(value),
    set(next: Value) {
      value = next
      other?.set?.call(object, next)
      onSet(next)
    },
  })
}
