// The processes of this machine, as /proc tells them.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { basename } from 'node:path'

export const childrenOf = (parent: number): number[] =>
  readdirSync('/proc')
    .map(Number)
    .filter(pid => pid > 0 && parentOf(pid) === parent)

export const descendantsOf = (parent: number): number[] =>
  childrenOf(parent).flatMap(pid => [pid, ...descendantsOf(pid)])

/** The file name of the program that a process runs. */
export const programOf = (pid: number): string => {
  try {
    return basename(readlinkSync(`/proc/${pid}/exe`))
  } catch {
    return 'none' // it has ended meanwhile
  }
}

const parentOf = (pid: number): number | undefined => {
  try {
    // `PID (NAME) STATE PPID …`
    return Number(readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ')[1])
  } catch {
    return undefined // it has ended meanwhile
  }
}
