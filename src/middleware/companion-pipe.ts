// The way to the companion's process: a pipe for short lines, and a file with what would be lost if this process were killed
// now. What they hold is described at the head of the companion itself, src/extension/post-invoke.sh.

import type { Stats } from 'node:fs'
import type { Socket } from 'node:net'
import { builtIn } from '../built-in.ts'
import script from '../extension/post-invoke.sh'
import { timer } from './waits.ts'

export type CompanionPipe = {
  /** Writes one line. It never throws and never waits. */
  write(line: string): void
  /** Whether the companion's process is gone. */
  isBroken(): boolean
}

/** Raised when a companion of the version before could no longer understand a line. In the pipe's name, here and in the script. */
export const PROTOCOL = 1

/** How soon a full pipe is tried again. Its reader is stopped, and so the environment is held meanwhile. */
const FULL_MS = 10

/** How much may wait for a full pipe: there are two lines for an invocation, and none is released meanwhile. */
const MAX_UNWRITTEN = 65_536

/** How long the script may take to register. Lambda allows 10 s for all of Init. */
const START_MS = 2_000

const fs = () => builtIn('node:fs')

/** Where both processes look. Environments that share a folder differ by the port of their API. */
export const pipePath = (folder: string, runtimeApi: string, protocol: number | string = PROTOCOL): string =>
  `${folder}/.middy-post-invoke-${protocol}-${runtimeApi.split(':').at(-1)}`

/**
 * Opens the pipe of the layer's companion. Success means that it is there: without a reader this fails with ENXIO.
 *
 * @param onBroken - Called once, when the companion's process turns out to be gone.
 * @returns the pipe, or why there is none.
 */
export function openPipe(path: string, onBroken: () => void): CompanionPipe | string {
  try {
    const fd = openOwn(path, fs().constants.O_WRONLY, stats => stats.isFIFO())
    return createPipe(fd, () => true, onBroken)
  } catch (error) {
    return (error as Error).message
  }
}

/** Neither a link, nor another's, nor of another kind: what is in a shared folder may be anybody's. */
function openOwn(path: string, flags: number, isRight: (stats: Stats) => boolean): number {
  const { constants, openSync, fstatSync, closeSync } = fs()
  const fd = openSync(path, flags | constants.O_NONBLOCK | constants.O_NOFOLLOW, 0o600)
  const stats = fstatSync(fd)
  if (isRight(stats) && stats.uid === process.getuid?.()) return fd
  closeSync(fd)
  throw new Error(`${path} is of another kind or user`)
}

/**
 * Starts the companion beside this process, as an internal extension, and waits until it has registered: an extension must
 * have done so before the runtime client asks for its first invocation.
 *
 * @param events - What it registers for, as JSON without the brackets: `"INVOKE"`, or nothing.
 * @returns the pipe, or why there is none.
 */
export function startCompanion(events: string, runtimeApi: string, onBroken: () => void): CompanionPipe | string {
  const { spawn } = builtIn('node:child_process')
  const { AWS_LAMBDA_LOG_FORMAT, POST_INVOKE_FOLDER } = process.env
  try {
    // --norc -p, in this order, and a bare environment: no start-up file of others runs in it.
    const child = spawn('/bin/bash', ['--norc', '-p', '-c', script, 'middy-post-invoke', events], {
      env: { AWS_LAMBDA_RUNTIME_API: runtimeApi, AWS_LAMBDA_LOG_FORMAT, POST_INVOKE_FOLDER, TZ: 'UTC0' },
      // A process group of its own: what kills this one's must not kill its witness.
      detached: true,
      stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
    })
    child.on('error', () => {}) // a failed spawn shows as a missing pid
    if (child.pid === undefined) return 'bash cannot be started'
    const socket = child.stdio[3] as Socket & { _handle: { fd: number } }
    // RIC 3 waits for an empty event loop before it takes a streaming handler for done.
    child.unref()
    socket.unref()
    socket.on('error', () => {}) // what follows is 'close'
    const answer = readAnswer(socket._handle.fd)
    if (answer !== 'ready') {
      child.kill('SIGKILL')
      socket.destroy() // a child of its own may have the other end as well
      return answer
    }
    const pipe = createPipe(socket._handle.fd, () => !socket.destroyed, onBroken)
    socket.on('close', () => pipe.write(''))
    return pipe
  } catch (error) {
    return (error as Error).message
  }
}

/** Synchronously: on an event loop that turns meanwhile the runtime client would ask for its first invocation. */
function readAnswer(fd: number): string {
  const sleep = new Int32Array(new SharedArrayBuffer(4))
  const buffer = Buffer.alloc(512)
  const end = performance.now() + START_MS
  let answer = ''
  while (performance.now() < end) {
    try {
      const length = fs().readSync(fd, buffer)
      answer += buffer.toString('utf8', 0, length)
      if (length === 0 || answer.includes('\n')) return answer.split('\n')[0] || 'bash ended'
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return (error as Error).message
      Atomics.wait(sleep, 0, 0, 0.1)
    }
  }
  return `no answer within ${START_MS} ms`
}

function createPipe(fd: number, isOpen: () => boolean, onBroken: () => void): CompanionPipe {
  const { writeSync } = fs()
  let isBroken = false
  let unwritten = ''
  let retry: NodeJS.Timeout | undefined

  function flush() {
    retry = undefined
    if (!isOpen() || unwritten.length > MAX_UNWRITTEN || !writeWhatFits()) {
      isBroken = true
      onBroken()
    } else if (unwritten !== '') retry = timer(FULL_MS, false, flush)
  }

  /** @returns whether anybody reads it. */
  function writeWhatFits(): boolean {
    try {
      // All that is written is ASCII: bytes are characters.
      unwritten = unwritten.slice(writeSync(fd, unwritten))
      return true
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'EAGAIN'
    }
  }

  return {
    write(line) {
      if (isBroken) return
      unwritten += line
      if (!retry) flush()
    },
    isBroken: () => isBroken,
  }
}

/**
 * The file of last words: the lines that the companion logs when this process is gone, or when time is up. It survives this
 * process, and writing it wakes nobody.
 *
 * @param onFailure - Called once when it cannot be written: then the companion has nothing to say.
 * @returns writes what stands there from now on. The empty text: nothing would be lost.
 */
export function createLastWords(path: string, onFailure: (reason: string) => void): (text: string) => void {
  const { constants, lstatSync, unlinkSync, writeSync } = fs() // once: to ask for it takes as long as to write
  let file: number | undefined
  let isEmpty = true
  let hasFailed = false
  try {
    // A process before this one may have left it. At a cold start there is none, and the error takes longer than the look.
    if (lstatSync(path, { throwIfNoEntry: false })) unlinkSync(path)
  } catch {}

  return write
  function write(text: string) {
    if (hasFailed || (text === '' && isEmpty)) return
    try {
      file ??= openOwn(path, constants.O_RDWR | constants.O_CREAT, stats => stats.isFile())
      // Only the first two lines count. The file is never cut: to have it grow again takes longer than to write.
      writeSync(file, text || '\n\n', 0)
      isEmpty = text === ''
    } catch (error) {
      hasFailed = true
      onFailure((error as Error).message)
    }
  }
}
