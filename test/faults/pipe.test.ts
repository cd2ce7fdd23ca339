// Everything that the pipe and the file between the function's process and its companion can meet.
import { spawnSync } from 'node:child_process'
import { chmodSync, chownSync, mkdirSync, renameSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { makeFolder, makeLayer } from '../support/fault-layers.ts'
import { canUnshare, unshare } from '../support/fault-mounts.ts'
import {
  companionPid,
  type Fault,
  type FaultEvent,
  type Given,
  type Start,
  untilMarked,
} from '../support/fault-observe.ts'
import { describeFaults, on } from '../support/fault-suite.ts'
import type { Run } from '../support/run.ts'

const isRoot = process.getuid?.() === 0

/** In bash, where AWS_LAMBDA_RUNTIME_API and POST_INVOKE_FOLDER are set. */
const PIPE = 'pipe=$POST_INVOKE_FOLDER/.middy-post-invoke-1-$(echo "$AWS_LAMBDA_RUNTIME_API" | cut -d : -f 2)'

const inFolder = (folder: string): Start => ({ environment: { POST_INVOKE_FOLDER: folder } })

/** What is done before the companion of the layer begins. */
const beforeLayer =
  (script: string) =>
  (given: Given): Start => ({
    ...inFolder(makeFolder(given.cleanUp)),
    layers: [makeLayer(given, `${PIPE}\n${script}`)],
  })

/** What is done when the companion is there, before the function's process begins. */
const beforeFunction =
  (script: string) =>
  ({ cleanUp }: Given): Start => ({
    ...inFolder(makeFolder(cleanUp)),
    command: argv => ['/bin/bash', '-c', `${PIPE}\n${script}\nexec "$@"`, 'bash', ...argv],
  })

const atThePath: Fault[] = [
  { injected: 'The stale pipe of an environment that is gone is at the path', start: beforeLayer('mkfifo "$pipe"') },
  {
    injected: 'A stale pipe is at the path, and somebody else reads it',
    start: beforeLayer('mkfifo "$pipe"; exec 9<>"$pipe"; cat <&9 >/dev/null & exec 9>&-'),
  },
  { injected: 'A file is at the path', start: beforeLayer('echo settled 1 >"$pipe"') },
  { injected: 'A symbolic link is at the path', start: beforeLayer('ln -s /dev/null "$pipe"') },
  { injected: 'A folder is at the path', start: beforeLayer('mkdir "$pipe"') },
  {
    injected: 'The folder of the path is missing',
    start: ({ cleanUp }: Given) => inFolder(join(makeFolder(cleanUp), 'missing')),
  },
  {
    injected: 'The pipe is removed before the function starts',
    start: beforeFunction('rm "$pipe"'),
  },
  {
    injected: 'The pipe is replaced by a file before the function starts',
    start: beforeFunction('rm "$pipe"; : >"$pipe"'),
  },
  {
    injected: 'The pipe is replaced by a symbolic link to itself before the function starts',
    start: beforeFunction('mv "$pipe" "$pipe-before"; ln -s "$pipe-before" "$pipe"'),
  },
  {
    injected: 'The pipe is replaced by one that nobody reads before the function starts',
    start: beforeFunction('rm "$pipe"; mkfifo "$pipe"'),
  },
  {
    injected: 'The pipe is given to another user before the function starts',
    isSkipped: !isRoot,
    start: beforeFunction('chown 12345 "$pipe"'),
  },
].map(fault => ({ ...fault, on: on.layer }))

const pathOf = ({ sandbox }: Run, folder: string) =>
  join(folder, `.middy-post-invoke-1-${sandbox.runtimeApi.split(':').at(-1)}`)

/** With a path to which something is done once the function's process has opened it. */
const changed = (change: (path: string) => unknown): Pick<Fault, 'start' | 'before'> => {
  const folders = new WeakMap<Given, string>()
  return {
    start: given => {
      const folder = makeFolder(given.cleanUp)
      folders.set(given, folder)
      return inFolder(folder)
    },
    before: (run, given) => change(pathOf(run, folders.get(given) as string)),
  }
}

const replace = (path: string) => {
  renameSync(path, `${path}-before`)
  spawnSync('mkfifo', [path])
}

const changes: Fault[] = [
  { injected: 'The pipe is removed before the first invocation', ...changed(unlinkSync) },
  { injected: 'The pipe is removed after the first invocation', isWarm: true, ...changed(unlinkSync) },
  { injected: 'The pipe is replaced by another before the first invocation', ...changed(replace) },
  { injected: 'The pipe is replaced by another after the first invocation', isWarm: true, ...changed(replace) },
].map(fault => ({ ...fault, on: on.layer }))

const killed: FaultEvent = {
  tasks: [
    { kind: 'quick', name: 'after' },
    { kind: 'is-killed', name: 'faulty' },
  ],
}

const lastWords: Fault[] = [
  {
    injected: 'A folder is where the names of unfinished tasks go',
    ...changed(path => mkdirSync(`${path}.tasks`)),
  },
  {
    injected: 'A symbolic link is where the names of unfinished tasks go',
    ...changed(path => spawnSync('ln', ['-s', '/dev/null', `${path}.tasks`])),
  },
  {
    injected: 'A pipe is where the names of unfinished tasks go',
    ...changed(path => spawnSync('mkfifo', [`${path}.tasks`])),
  },
  {
    injected: 'The file for the names of unfinished tasks is of another user',
    isSkipped: !isRoot,
    ...changed(path => {
      writeFileSync(`${path}.tasks`, 'not ours\n')
      chownSync(`${path}.tasks`, 12345, 12345)
    }),
  },
  {
    injected: 'The file for the names of unfinished tasks has old ones, and the process is killed',
    event: killed,
    ...changed(path => {
      writeFileSync(`${path}.tasks`, `${'old\n'.repeat(1_000)}`)
      chmodSync(`${path}.tasks`, 0o600)
    }),
  },
].map(fault => ({ ...fault, on: on.extensions }))

/** A folder of its own, with so little room. */
const small =
  (options: string, fill: (folder: string) => void = () => {}) =>
  ({ cleanUp }: Given): Start => {
    const folder = makeFolder(cleanUp)
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', `mode=0700,${options}`, 'tmpfs', folder])
    if (mounted.status !== 0) throw new Error(`mount: ${mounted.stderr}`)
    cleanUp.defer(async () => void spawnSync('umount', ['-l', folder]))
    fill(folder)
    return inFolder(folder)
  }

/** The layer's process and the function's, each with a folder that is read-only for it. */
const readOnly = (given: Given): Start => {
  const folder = makeFolder(given.cleanUp)
  const mount = `mount --bind ${folder} ${folder} && mount -o remount,ro,bind ${folder}`
  const inside = [...unshare, 'sh', '-c', `'${mount} && exec "$@"'`, 'sh'].join(' ')
  return {
    ...inFolder(folder),
    command: argv => [...unshare, 'sh', '-c', `${mount} && exec "$@"`, 'sh', ...argv],
    ...(given.companion === 'layer' && { layers: [makeLayer(given, `exec() { builtin exec ${inside} "$@"; }`)] }),
  }
}

const room: Fault[] = [
  {
    injected: 'The folder is full',
    on: on.extensions,
    isSkipped: !isRoot,
    start: small('size=4k', folder => writeFileSync(join(folder, 'all-there-is'), Buffer.alloc(4_096))),
  },
  {
    injected: 'The folder has no room for another name',
    on: on.extensions,
    isSkipped: !isRoot,
    start: small('size=64k,nr_inodes=1'),
  },
  { injected: 'The folder is read-only', on: on.extensions, isSkipped: !canUnshare, start: readOnly },
]

const around = (kind: string): FaultEvent => ({
  tasks: [
    { kind: 'quick', name: 'after' },
    { kind, name: 'faulty' },
    { kind: 'quick', name: 'before' },
  ],
})

const strangers: Fault[] = [
  { injected: 'Somebody else writes what is no line of ours', event: around('writes-garbage') },
  { injected: 'Somebody else writes a line of 200,000 characters', event: around('writes-a-long-line') },
  { injected: 'Somebody else floods the companion with lines', event: around('floods') },
  { injected: 'Another process tells that the invocation has settled', event: around('settles-for-another') },
].map(fault => ({ ...fault, on: on.layer }))

const filled: Fault = {
  injected: 'The companion is stopped until its pipe is full, and continued after the answer',
  on: on.layer,
  start: () => ({ freeze: false }),
  event: {
    tasks: [
      { kind: 'sleep', name: 'second', ms: 100 },
      { kind: 'fills-the-pipe', name: 'first' },
    ],
  },
  before: run => process.kill(companionPid(run), 'SIGSTOP'),
  during: async (run, { requestId }) => {
    await untilMarked(run, requestId, 'end', 'second')
    process.kill(companionPid(run), 'SIGCONT')
  },
}

/** It swallows the next line, which is ours. */
const halfALine: Fault = {
  injected: 'Somebody else writes half a line',
  on: on.layer,
  start: () => ({ freeze: false, timeout: 2_500 }),
  event: around('writes-half-a-line'),
  isHeldOnce: true,
}

describeFaults('pipe', [...atThePath, ...changes, ...lastWords, ...room, ...strangers, halfALine, filled])
