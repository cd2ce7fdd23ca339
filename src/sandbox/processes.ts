import { type ChildProcess, spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import type { LogLine, ProcessExit } from './events.ts'

/**
 * The processes of one environment: the function's, its extensions' and all their descendants. `marker` is a line of
 * every one's environment (`NAME=value`) by which descendants that left their process group are found.
 */
export const createProcesses = (marker: string, on: ProcessListeners): Processes => {
  const children = new Map<string, Child>()
  const watchdog = createWatchdog()
  let frozen: readonly number[] | undefined

  const alive = () => [...children.values()].filter(child => child.isAlive())
  const strays = () => findStrays(marker, new Set(alive().map(({ pid }) => pid)))

  /** Returns how many were left. */
  const killEverything = (): number => {
    const left = strays()
    // Without /proc, what an ended process left behind can only be found in its group.
    const groups = process.platform === 'linux' ? alive() : [...children.values()]
    for (const { pid } of groups) signalGroup(pid, 'SIGKILL')
    for (const pid of left) signal(pid, 'SIGKILL')
    return left.length + alive().length
  }

  return {
    get: name => children.get(name),
    alive,
    start(command) {
      const child = startChild(command, on)
      children.set(command.name, child)
      if (child.pid > 0) watchdog.guard(child.pid)
      return child
    },
    freeze() {
      for (const { pid } of alive()) signalGroup(pid, 'SIGSTOP')
      const pids = strays()
      for (const pid of pids) signal(pid, 'SIGSTOP')
      frozen = pids
    },
    thaw() {
      if (!frozen) return false
      for (const pid of frozen) signal(pid, 'SIGCONT')
      for (const { pid } of alive()) signalGroup(pid, 'SIGCONT')
      frozen = undefined
      return true
    },
    async end() {
      for (const { pid } of alive()) signalGroup(pid, 'SIGKILL')
      // Lambda's supervisor ends the processes that it has started, with their groups. What is outside of them, such as an
      // internal extension in a process of its own, goes with the environment, a moment later: it may still have a line to write.
      const until = performance.now() + STRAY_WAIT_MS
      while (strays().length > 0 && performance.now() < until) await sleep(KILL_ROUND_MS)
      // More than one round: processes take a moment to end, and may have forked while the signals went out.
      for (let round = 0; killEverything() > 0 && round < KILL_ROUNDS; round += 1) await sleep(KILL_ROUND_MS)
      await withLimit(Promise.all([...children.values()].map(child => child.closed)), CLOSE_WAIT_MS)
      for (const child of children.values()) child.release()
      watchdog.dismiss()
    },
  }
}

export type Processes = {
  get(name: string): Child | undefined
  alive(): readonly Child[]
  start(command: Command): Child
  freeze(): void
  /** `false` when nothing was frozen. */
  thaw(): boolean
  /** Kills all that is left, strays included, and waits for it, within a bound. */
  end(): Promise<void>
}

export type ProcessListeners = {
  line(line: Omit<LogLine, 'at'>): void
  exit(exit: ProcessExit & { readonly pid: number; readonly error?: Error }): void
}

export type Command = {
  readonly name: string
  readonly argv: readonly [string, ...string[]]
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
}

export type Child = {
  readonly name: string
  /** 0 when the process could not be started. */
  readonly pid: number
  readonly isAlive: () => boolean
  /** Its output has been read to the end. */
  readonly closed: Promise<unknown>
  /** To the whole process group, as Lambda's supervisor does. */
  signal(signal: NodeJS.Signals): void
  release(): void
}

const KILL_ROUNDS = 200
const KILL_ROUND_MS = 10
const CLOSE_WAIT_MS = 500
const STRAY_WAIT_MS = 500

const startChild = ({ name, argv, cwd, env }: Command, on: ProcessListeners): Child => {
  const [file, ...args] = argv
  // `detached`: a process group of its own, to be signalled as one. Standard input is no pipe: Node makes pipes of
  // sockets, and bash, seeing a socket there, believes that it was started by a remote shell and reads ~/.bashrc.
  const child = spawn(file, args, { cwd, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  const pid = child.pid ?? 0
  readLines(child.stdout, text => on.line({ source: name, stream: 'stdout', text }))
  readLines(child.stderr, text => on.line({ source: name, stream: 'stderr', text }))

  let isAlive = pid !== 0
  child.once('exit', (exitCode, signal) => {
    isAlive = false
    on.exit({ process: name, pid, exitCode, signal })
  })
  child.on('error', error => {
    if (pid === 0) on.exit({ process: name, pid, exitCode: null, signal: null, error })
  })
  return {
    name,
    pid,
    closed: pid === 0 ? Promise.resolve() : new Promise(resolve => child.once('close', resolve)),
    isAlive: () => isAlive,
    signal: signal => signalGroup(pid, signal),
    release: () => destroyPipes(child),
  }
}

const readLines = (stream: Readable, onLine: (text: string) => void) => {
  let rest = ''
  stream.setEncoding('utf8')
  stream.on('data', (chunk: string) => {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) onLine(line)
  })
  stream.once('close', () => {
    if (rest !== '') onLine(rest)
  })
}

const destroyPipes = (child: ChildProcess) => {
  child.stdout?.destroy()
  child.stderr?.destroy()
}

const signalGroup = (pid: number, name: NodeJS.Signals) => {
  if (pid > 0) signal(-pid, name)
}

const signal = (pid: number, name: NodeJS.Signals) => {
  try {
    process.kill(pid, name)
  } catch {
    // It is gone already.
  }
}

/** Members of the environment outside the given process groups. Linux only: elsewhere the groups must do. */
const findStrays = (marker: string, groups: ReadonlySet<number>): readonly number[] => {
  if (process.platform !== 'linux') return []
  const entry = `\0${marker}\0`
  const parents = new Map<number, number>()
  const members = new Set<number>()
  const strays: number[] = []
  for (const name of readdirSync('/proc')) {
    const pid = Number(name)
    if (!Number.isInteger(pid) || pid === process.pid) continue
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
      const [, parent, group] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      parents.set(pid, Number(parent))
      if (groups.has(Number(group))) members.add(pid)
      else if (`\0${readFileSync(`/proc/${pid}/environ`, 'latin1')}`.includes(entry)) {
        members.add(pid)
        strays.push(pid)
      }
    } catch {
      // It ended meanwhile, or belongs to somebody else.
    }
  }
  for (let grew = true; grew; ) {
    grew = false
    for (const [pid, parent] of parents) {
      if (members.has(pid) || !members.has(parent)) continue
      members.add(pid)
      strays.push(pid)
      grew = true
    }
  }
  return strays
}

const withLimit = async (promise: Promise<unknown>, limitMs: number) => {
  let timer: NodeJS.Timeout | undefined
  const limit = new Promise(resolve => {
    timer = setTimeout(resolve, limitMs)
  })
  await Promise.race([promise, limit])
  clearTimeout(timer)
}

/**
 * Kills the process groups that it was told of when this process ends, however it ends: nothing else would, and what
 * is frozen would lie there for ever. It learns of that end from its standard input.
 */
const createWatchdog = () => {
  let shell: ChildProcess | undefined
  const start = () => {
    const started = spawn('/bin/sh', ['-c', WATCH], { detached: true, env: {}, stdio: ['pipe', 'ignore', 'ignore'] })
    started.on('error', () => {})
    started.stdin?.on('error', () => {})
    return started
  }
  return {
    guard(pid: number) {
      shell ??= start()
      shell.stdin?.write(`${pid}\n`)
    },
    dismiss() {
      shell?.kill('SIGKILL')
      shell?.stdin?.destroy()
    },
  }
}

const WATCH = 'while read -r pid; do pids="$pids $pid"; done; for pid in $pids; do kill -9 -"$pid"; done'
