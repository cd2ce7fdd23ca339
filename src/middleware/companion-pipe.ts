// The way to the companion's process: a pipe for short lines, and a file with what would be lost if this process were killed
// now. What they hold is described at the head of the companion itself, src/extension/post-invoke.sh.

import type { Stats } from 'node:fs'
import type { Socket } from 'node:net'
import { builtIn } from '../built-in.ts'
import script from '../extension/post-invoke.sh'
import { isJsonFormat } from '../log.ts'
import { timer } from './waits.ts'

export type CompanionPipe = ReturnType<typeof createPipe>

/** Raised when a companion of the version before could no longer understand a line. In the pipe's name, here and in the script. */
export const PROTOCOL = 1

/** How soon a full pipe is tried again. Its reader is stopped, and so the environment is held meanwhile. */
const FULL_MS = 10
/** How much may wait for a full pipe: there are two lines for an invocation, and none is released meanwhile. */
const MAX_UNWRITTEN = 65_536
/** How long the script may take to register. Lambda allows 10 s for all of Init. */
const START_MS = 2_000

const fs = () => builtIn('node:fs')
const noop = () => {}

/** Where both processes look. Environments that share a folder differ by the port of their API. */
export const pipePath = (folder: string, runtimeApi: string, protocol = PROTOCOL): string =>
  `${folder}/.middy-post-invoke-${protocol}-${runtimeApi.split(':').at(-1)}`

/**
 * Opens the pipe of the layer's companion, or throws: without a reader, which is without the layer, with ENXIO.
 *
 * @param onBroken - Called once, when the companion's process turns out to be gone.
 */
export const openPipe = (path: string, onBroken: () => void): CompanionPipe =>
  createPipe(openOwn(path, fs().constants.O_WRONLY, 'isFIFO'), onBroken)

/** Neither a link, nor another's, nor of another kind: what is in a shared folder may be anybody's. */
function openOwn(path: string, flags: number, kind: keyof Stats & `is${string}`): number {
  const { constants, openSync, fstatSync, closeSync } = fs()
  const fd = openSync(path, flags | constants.O_NONBLOCK | constants.O_NOFOLLOW, 0o600)
  const stats = fstatSync(fd)
  if (stats[kind]() && stats.uid === process.getuid?.()) return fd
  closeSync(fd)
  throw new Error(`${path} is of another kind or user`)
}

/**
 * Starts the companion beside this process, as an internal extension, and waits until it has registered: an extension must
 * have done so before the runtime client asks for its first invocation. Throws where that fails.
 *
 * @param events - What it registers for, as JSON without the brackets: `"INVOKE"`, or nothing.
 * @param words - The file of last words, where there are some.
 */
export function startCompanion(events: string, runtimeApi: string, words = '', onBroken = noop): CompanionPipe {
  // --norc -p, in this order, and a bare environment: no start-up file of others runs in it.
  const args = ['--norc', '-p', '-c', script, 'middy-post-invoke', events, words, isJsonFormat() ? '1' : '']
  const child = builtIn('node:child_process').spawn('/bin/bash', args, {
    env: { AWS_LAMBDA_RUNTIME_API: runtimeApi },
    detached: true, // in a process group of its own: what kills this one's must not kill its witness
    stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
  })
  // A failed spawn shows as a missing pid, and a failed socket closes. RIC 3 waits for an empty event loop before it takes a
  // streaming handler for done.
  child.on('error', noop).unref()
  if (child.pid === undefined) throw new Error('bash cannot be started')
  const socket = child.stdio[3] as Socket & { _handle: { fd: number } }
  socket.on('error', noop).unref()
  const { fd } = socket._handle
  const answer = firstLine(fd)
  if (answer !== 'ready') {
    child.kill('SIGKILL')
    socket.destroy() // a child of its own may have the other end as well
    throw new Error(answer)
  }
  const pipe = createPipe(fd, onBroken, socket)
  socket.on('close', () => pipe.write('')) // which sees that the socket is gone
  return pipe
}

/**
 * Synchronously: on an event loop that turns meanwhile the runtime client would ask for its first invocation.
 *
 * @returns the line, or why there is none.
 */
function firstLine(fd: number): string | undefined {
  const sleep = new Int32Array(new SharedArrayBuffer(4))
  const buffer = Buffer.alloc(512)
  const end = performance.now() + START_MS
  let answer = ''
  while (performance.now() < end) {
    try {
      const length = fs().readSync(fd, buffer)
      if (length === 0) return 'bash ended'
      answer += buffer.toString('utf8', 0, length)
      if (answer.includes('\n')) return answer.split('\n')[0]
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return (error as Error).message
      Atomics.wait(sleep, 0, 0, 0.1)
    }
  }
  return `no answer within ${START_MS} ms`
}

/** @param socket - Whose descriptor it is. One that has been closed may be another file's by now. */
function createPipe(fd: number, onBroken: () => void, socket?: Socket) {
  const { writeSync } = fs()
  let isBroken = false
  let unwritten = ''
  let retry: NodeJS.Timeout | undefined

  function flush() {
    retry = undefined
    isBroken = socket?.destroyed || unwritten.length > MAX_UNWRITTEN
    try {
      // All that is written is ASCII: bytes are characters.
      if (!isBroken) unwritten = unwritten.slice(writeSync(fd, unwritten))
    } catch (error) {
      isBroken = (error as NodeJS.ErrnoException).code !== 'EAGAIN'
    }
    if (isBroken) onBroken()
    else if (unwritten !== '') retry = timer(FULL_MS, false, flush)
  }

  return {
    /** Writes one line. It never throws and never waits. */
    write(line: string): void {
      if (isBroken) return
      unwritten += line
      if (!retry) flush()
    },
    /** Whether the companion's process is gone. */
    isBroken: () => isBroken,
  }
}

/**
 * The file of last words: the lines that the companion logs when this process is gone, or when time is up. It survives this
 * process, and writing it wakes nobody. The companion empties it as it starts. What is there of another kind, or another user's,
 * is left alone: then there are none.
 *
 * @param onFailure - Called once when it cannot be written: then the companion has nothing to say.
 * @returns writes what stands there from now on. The empty text: nothing would be lost.
 */
export function createLastWords(path: string, onFailure: (reason: string) => void): (text: string) => void {
  const { constants, writeSync } = fs() // once: to ask for it takes as long as to write
  let file: number | undefined
  let last: string | undefined = ''
  return write
  function write(text: string) {
    if (last === undefined || text === last) return
    try {
      file ??= openOwn(path, constants.O_RDWR | constants.O_CREAT, 'isFile')
      // Only the first two lines count. The file is never cut: to have it grow again takes longer than to write.
      writeSync(file, text || '\n\n', 0)
      last = text
    } catch (error) {
      last = undefined // it is not tried again
      onFailure((error as Error).message)
    }
  }
}
