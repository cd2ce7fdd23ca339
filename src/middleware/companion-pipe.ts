// The ways to the companion's process: the pipe of the layer's, and a socket to the one that is started here.
import type { Socket } from 'node:net'
import { builtIn } from '../built-in.ts'
import script from '../extension/post-invoke.sh'
import { isJsonFormat } from '../log.ts'
import { now } from './waits.ts'

/** Raised when a companion of the version before could no longer understand a line. In the pipe's name, here and in the script. */
export const PROTOCOL = 1

/** How long the script may take to register. Lambda allows 10 s for all of Init. */
const START_MS = 2_000

const fs = () => builtIn('node:fs')
const noop = () => {}

/** Where both processes look. Environments that share a folder differ by the port of their API. */
export const pipePath = (folder: string, runtimeApi: string, protocol = PROTOCOL): string =>
  `${folder}/.middy-post-invoke-${protocol}-${runtimeApi.split(':').at(-1)}`

/**
 * Opens the pipe of the layer's companion, or the file of last words. Without a reader, which is without the layer, a pipe
 * cannot be opened (ENXIO). Neither may be a link, or another user's: what is in a shared folder may be anybody's.
 */
export function openOwn(path: string, isPipe: boolean): number {
  const { constants, openSync, fstatSync, closeSync } = fs()
  const mode = isPipe ? constants.O_WRONLY : constants.O_RDWR | constants.O_CREAT
  const fd = openSync(path, mode | constants.O_NONBLOCK | constants.O_NOFOLLOW, 0o600)
  const stats = fstatSync(fd)
  if ((isPipe ? stats.isFIFO() : stats.isFile()) && stats.uid === process.getuid?.()) return fd
  closeSync(fd)
  throw new Error(`${path} is of another kind or user`)
}

/** Our end of the socket to the script. */
export type Script = Socket & { _handle: { fd: number } }

/**
 * Starts the companion beside this process, as an internal extension, and waits until it has registered: an extension must
 * have done so before the runtime client asks for its first invocation. Throws where that fails.
 *
 * @param events - What it registers for, as JSON without the brackets: `"INVOKE"`, or nothing.
 * @param words - The file of last words, where there are some.
 */
export function startScript(events: string, runtimeApi: string, words = ''): Script {
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
  const socket = child.stdio[3] as Script
  socket.on('error', noop).unref()
  const answer = firstLine(socket._handle.fd)
  if (answer === 'ready') return socket
  child.kill('SIGKILL')
  socket.destroy() // a child of its own may have the other end as well
  throw new Error(answer)
}

/**
 * Synchronously: on an event loop that turns meanwhile the runtime client would ask for its first invocation.
 *
 * @returns the line, or why there is none.
 */
function firstLine(fd: number): string | undefined {
  const sleep = new Int32Array(new SharedArrayBuffer(4))
  const buffer = Buffer.alloc(512)
  const end = now() + START_MS
  let answer = ''
  while (now() < end) {
    try {
      const length = fs().readSync(fd, buffer)
      if (length === 0) return 'bash ended'
      answer += buffer.subarray(0, length)
      if (answer.includes('\n')) return answer.split('\n')[0]
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return (error as Error).message
      Atomics.wait(sleep, 0, 0, 0.1)
    }
  }
  return `no answer within ${START_MS} ms`
}

/**
 * Registers an extension for nothing: Lambda sends SIGTERM to a process beside which there is one, and to no other.
 * https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
 *
 * @returns why that failed, or `''`.
 */
export function registerForSigterm(runtimeApi: string): string {
  try {
    startScript('', runtimeApi)
    return ''
  } catch (error) {
    return (error as Error).message
  }
}
