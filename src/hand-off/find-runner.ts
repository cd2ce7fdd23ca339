// How `hand-off` finds what `hand-off/embedded` brings, without a way from one to the other that bundlers could follow.
import { version } from '../version.ts'

export type RunnerModule = typeof import('./runner.ts')
export type LoadRunner = () => Promise<RunnerModule>

export const RUNNER = Symbol.for(`middy-post-invoke/${version}/runner`)

/** @returns what loads it, where the function has imported it. */
export const findRunner = (): LoadRunner | undefined => (globalThis as { [RUNNER]?: LoadRunner })[RUNNER]
