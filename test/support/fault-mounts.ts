// A process that sees other mounts than the rest of the machine.
import { spawnSync } from 'node:child_process'
import type { Start } from './fault-observe.ts'

/** A mount namespace is root's, or that of a user who may be root in one of his own. */
export const unshare: readonly string[] = [
  'unshare',
  ...(process.getuid?.() === 0 ? [] : ['--map-root-user']),
  '--mount',
]

export const canUnshare = spawnSync(unshare[0] as string, [...unshare.slice(1), 'true']).status === 0

/** The function's process with other mounts. */
export const mounted = (script: string): Start => ({
  command: argv => [...unshare, 'sh', '-c', `${script} && exec "$@"`, 'sh', ...argv],
})
