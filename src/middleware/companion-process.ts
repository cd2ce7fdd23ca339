// What the companion's process is told, the layer's or the internal extension: short lines through a pipe, and in a file what
// would be lost if this process were killed now. Both are described at the head of the companion itself,
// src/extension/post-invoke.sh.
import { builtIn } from '../built-in.ts'
import type { Log, LogFields } from '../log.ts'
import { openOwn, type Script } from './companion-pipe.ts'
import { endProcess } from './end-process.ts'
import { timer } from './waits.ts'

/** Reports one invocation to the companion's process. */
export type Reporter = {
  /** What would be lost if this process were killed now. Before the response has left, too. */
  wouldLose(names: readonly string[], list: string): void
  /**
   * The response has left, and tasks begin to run.
   *
   * @param left - Milliseconds until the function's deadline.
   */
  hold(left: number): void
  /** The response has left, and nothing is left to do. */
  settle(): void
}

/**
 * What keeps the environment awake after the response. Of the layer's companion and the internal extension there is a process,
 * which is told.
 */
export type Companion = {
  /** The layer's runs what was handed off. The gate is the promise that `InvokeStore.run` returns, and nothing else. */
  readonly name: 'layer' | 'internal' | 'gate' | 'none'
  /** Warns of an invocation that it does not hold, where that has a reason of its own. */
  warnUnheld?(): void
  /**
   * Missing where there is no process to tell. Where there is one it is an extension, and so Lambda sends SIGTERM.
   *
   * @param tenantId - Of the request, for the log, where the function isolates tenants.
   */
  reporter?(requestId: string, tenantId?: string): Reporter
  /** Whether its process is gone. */
  isGone?(): boolean
  /** This function hands work off. */
  expectHandedOff?(): void
}

/** How soon a full pipe is tried again. Its reader is stopped, and so the environment is held meanwhile. */
const FULL_MS = 10
/** How much may wait for a full pipe: there are two lines for an invocation, and none is released meanwhile. */
const MAX_UNWRITTEN = 65_536
/** https://docs.aws.amazon.com/lambda/latest/dg/configuration-timeout.html */
const LONGEST_INVOCATION_MS = 900_000

/**
 * @param fd - Our end of its pipe.
 * @param socket - Whose descriptor it is, of the internal extension. One that has been closed may be another file's by now.
 * @param path - The file of last words.
 */
export function createCompanion(
  fd: number,
  socket: Script | undefined,
  path: string,
  { warnOnce, line }: Pick<Log, 'warnOnce' | 'line'>,
  tellsEnds: boolean,
): Companion {
  const { writeSync } = builtIn('node:fs') // once: to ask for it takes as long as to write
  let isBroken = false
  let unwritten = ''
  let retry: NodeJS.Timeout | undefined
  let count = 0
  let begun = 0
  /** Whose last words stand there. An earlier invocation that ends late must not touch them. */
  let author = 0
  let wordsFd: number | undefined
  let last: string | undefined = ''
  socket?.on('close', flush) // which sees that it is gone
  write(tellsEnds ? 'open\n' : 'watch\n')
  return {
    name: socket ? 'internal' : 'layer',
    isGone: () => isBroken,
    expectHandedOff() {
      if (!socket) write('work\n')
    },
    reporter(id, tenantId) {
      const order = ++begun
      // Numbered at their first line: the script ignores what is not above the last number released.
      let number: number | undefined
      function say(kind: string, rest: unknown) {
        number ??= ++count
        write(`${kind} ${number} ${rest}\n`)
      }
      return {
        wouldLose(tasks, list) {
          if (author > order) return
          author = order
          const fields = { requestId: id, tenantId, tasks } as LogFields // what is undefined is not in a line
          writeWords(
            list &&
              line(`the function's process ended in the middle of request ${id}; unfinished: ${list}`, fields) +
                line(`released request ${id} before its deadline; unfinished: ${list}`, fields),
          )
        },
        hold(left) {
          say('hold', Math.round(Date.now() + Math.min(left, LONGEST_INVOCATION_MS)))
        },
        settle() {
          if (author <= order) writeWords('')
          say('settled', /[\w-]{0,8}/.exec(id))
          if (isBroken && socket && tellsEnds) endProcess()
        },
      }
    },
  }

  function write(told: string) {
    if (isBroken) return
    unwritten += told
    if (!retry) flush()
  }

  /** A full pipe is tried again later: nothing here throws or waits. */
  function flush() {
    retry = undefined
    isBroken = socket?.destroyed || unwritten.length > MAX_UNWRITTEN
    try {
      // All that is written is ASCII: bytes are characters.
      if (!isBroken) unwritten = unwritten.slice(writeSync(fd, unwritten))
    } catch (error) {
      isBroken = (error as NodeJS.ErrnoException).code !== 'EAGAIN'
    }
    if (!isBroken) {
      if (unwritten !== '') retry = timer(FULL_MS, false, flush)
    } else if (socket) {
      // Lambda cannot see that it is gone, and would wait for it in each invocation.
      warnOnce('WARN_INTERNAL_GONE', 'the internal extension is gone: this process ends after its next answer')
    } else warnOnce('WARN_LAYER_GONE', "the layer's companion is gone")
  }

  /**
   * What the companion logs when this process is gone, or when time is up. The file survives this process, and writing it wakes
   * nobody. The companion empties it as it starts. What is there of another kind, or another user's, is left alone.
   *
   * @param text - What stands there from now on, nothing where nothing would be lost.
   */
  function writeWords(text: string) {
    if (last === undefined || text === last) return
    try {
      wordsFd ??= openOwn(path, false)
      // Only the first two lines count. The file is never cut: to have it grow again takes longer than to write.
      writeSync(wordsFd, text || '\n\n', 0)
      last = text
    } catch (error) {
      last = undefined // it is not tried again
      warnOnce('WARN_LAST_WORDS', `last words cannot be written (${(error as Error).message})`)
    }
  }
}
