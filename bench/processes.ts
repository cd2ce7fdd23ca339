// What a process has cost so far, from Linux' /proc.
import { readdirSync, readFileSync } from 'node:fs'

/** In megabytes. `own` is what the process shares with no other: what one process more costs an environment. */
export type Memory = { readonly own: number; readonly proportional: number; readonly resident: number }

export const memoryOf = (pid: number | 'self'): Memory => {
  const lines = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
  const kilobytes = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(lines)?.[1])
  return {
    own: (kilobytes('Private_Clean') + kilobytes('Private_Dirty')) / 1024,
    proportional: kilobytes('Pss') / 1024,
    resident: kilobytes('Rss') / 1024,
  }
}

/** Milliseconds on a processor, of all threads that still run. An `exec` does not begin anew. */
export const cpuTimeOf = (pid: number): number =>
  readdirSync(`/proc/${pid}/task`)
    .map(thread => Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]) / 1e6)
    .reduce((sum, one) => sum + one, 0)

/** The internal extension of a function's process: the bash among what that process has started. */
export const childOf = (pid: number): number | undefined =>
  readdirSync(`/proc/${pid}/task`)
    .flatMap(thread => readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8').split(' ').filter(Boolean))
    .map(Number)
    .find(child => readFileSync(`/proc/${child}/comm`, 'utf8').trim() === 'bash')
