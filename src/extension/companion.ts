// What holds the environment, as the middleware sees it.
import type { TaskList } from './link.ts'

/** What the middleware asks of a companion, whichever it is. */
export type Companion = {
  readonly kind: 'layer' | 'internal' | 'gate' | 'none'
  /** Whether Lambda sends SIGTERM to the function's process on its account. */
  readonly bringsSigterm: boolean
  /** Whether tasks of an invocation that begins now can run after its response. If not, they are awaited before it. */
  holds(invocation: { readonly gated: boolean }): boolean
  /** Resolves when the companion holds, or soon after when it does not come; `undefined` where it holds already. */
  ready(): Promise<void> | undefined
  /** The tasks that a request would lose now. Called as they are deferred and end. */
  tasks(requestId: string, unfinished: TaskList): void
  /** Nothing is left to do for this request. */
  settle(requestId: string): void
}

/** What a warning says of the consequence: which it is, each middleware's option decides. */
export const withoutCompanionApplies = 'withoutCompanion applies (by default tasks are awaited before the answer)'
