// How `hand-off` finds what `hand-off/embedded` brings, without a way from one to the other that bundlers could follow.
import type { Log } from '../log.ts'
import { version } from '../version.ts'
import type { RunnerOptions } from './runner.ts'

/**
 * Runs what waits in the spool.
 *
 * @returns `undefined` where nothing does. Never rejects.
 */
export type RunWaiting = (
  settings: Omit<RunnerOptions, 'isolatesJobs' | 'log'>,
  log: Log,
  deadline: number,
  isLast?: boolean,
) => Promise<void> | undefined

export const RUNNER = Symbol.for(`middy-post-invoke/${version}/runner`)

/** @returns what the function has imported for it, if it has. */
export const findRunner = (): RunWaiting | undefined => (globalThis as { [RUNNER]?: RunWaiting })[RUNNER]
