// Where the one FunctionProcess of a process hangs, for copies and other entries of this package.
import type { Log } from '../log.ts'
import { version } from '../version.ts'
import type { FunctionProcess } from './function-process.ts'
import type { Invocation } from './invocation.ts'

/** What the entry `hand-off` offers to the process, where it is loaded. */
export type HandedOffWork = {
  /**
   * Runs what has been handed off in this process.
   *
   * @param invocation - What was kept back for it may be taken from now on. With `isLast` all may.
   * @returns `undefined` where nothing waits. Never rejects.
   */
  run(log: Log, deadline: number, isLast?: boolean, invocation?: Invocation): Promise<void> | undefined
}

export type Shared = {
  [FUNCTION_PROCESS]?: FunctionProcess
  [HANDED_OFF]?: HandedOffWork
}

export const FUNCTION_PROCESS = Symbol.for(`middy-post-invoke/${version}`)
export const HANDED_OFF = Symbol.for(`middy-post-invoke/${version}/hand-off`)

/** The one of this process, where a `postInvoke()` has made one. */
export const existingFunctionProcess = (): FunctionProcess | undefined => (globalThis as Shared)[FUNCTION_PROCESS]

/** The invocation in which the caller runs, if it has not settled. */
export const currentInvocation = (): Invocation | undefined => existingFunctionProcess()?.current
