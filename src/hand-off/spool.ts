// The spool: a folder of this user's alone in which each piece of handed-off work is a file. It is in /tmp, which survives
// the function's process, the companion's and a reset of the environment. All that has to be known about a piece before it
// is read stands in its name, so that one rename changes all of it at once:
//
//   DUE-ACCEPTED-ATTEMPTS-DEATHS-TOKEN-LANE.json   waits; nobody is to run it before DUE
//   DUE-ACCEPTED-ATTEMPTS-DEATHS-TOKEN-LANE.taken  is run by somebody, who has died if it still has this name at DUE
//   part-TOKEN                                     being written; who dies meanwhile has accepted nothing
//   failed-…, corrupt-…                            set aside, to be looked at: given up, or not to be read
//
// Times are 13 digits, milliseconds since the epoch: a name that begins with a digit says when somebody is to look at it.
// Accepting is a rename, taking is a rename, and done is an unlink, each atomic between processes and on file systems that
// several environments share. Nothing has to be compacted, and one bad entry spoils no other.
import { builtIn } from '../built-in.ts'
import { PostInvokeError } from '../errors.ts'

type Fs = typeof import('node:fs')

/** How much waits at the most. A function's /tmp has 512 MB by default. */
export const MAX_WAITING = { entries: 1_000, bytes: 67_108_864 }

/** How long a piece waits for its next attempt at the most. A time that lies further ahead is that of another clock. */
export const MAX_WAIT_MS = 6 * 3_600_000

/** Longer than any invocation: so long nobody runs, writes or keeps back anything. */
export const LONGEST_INVOCATION_MS = 900_000

/** A piece of work as its file's name tells of it. */
export type Piece = {
  /** From when on somebody is to look at it. */
  readonly due: number
  readonly accepted: number
  /** How often it was begun. */
  readonly attempts: number
  /** How often who ran it died. */
  readonly deaths: number
  readonly token: string
  /** The same for all that goes to one receiver. */
  readonly lane: string
  readonly isTaken: boolean
}

type Parts = [string, string, string, string, string, string, string, string]

const NAME = /^(\d{13})-(\d{13})-(\d\d)-(\d\d)-([0-9a-z]{1,24})-([0-9a-f]{8})\.(json|taken)$/

/** @returns `undefined` for a name that is none of the spool's pieces. */
export function parseName(name: string): Piece | undefined {
  const parts = NAME.exec(name)
  if (!parts) return undefined
  const [, due, accepted, attempts, deaths, token, lane, state] = parts as unknown as Parts
  const numbers = { due: Number(due), accepted: Number(accepted), attempts: Number(attempts), deaths: Number(deaths) }
  return { ...numbers, token, lane, isTaken: state === 'taken' }
}

export function nameOf({ due, accepted, attempts, deaths, token, lane, isTaken }: Piece): string {
  const count = (number: number) => String(Math.min(number, 99)).padStart(2, '0')
  const time = (milliseconds: number) => String(Math.round(milliseconds)).padStart(13, '0')
  const state = isTaken ? 'taken' : 'json'
  return `${time(due)}-${time(accepted)}-${count(attempts)}-${count(deaths)}-${token}-${lane}.${state}`
}

/**
 * Whether there is something to run. Cheap: asked in each invocation.
 *
 * @param isLast - Whether the environment ends: then nothing waits until it is due, and what is under way is waited for.
 */
export function hasWaiting(folder: string, isLast = false): boolean {
  try {
    const now = Date.now()
    return (
      fs().existsSync(folder) &&
      fs()
        .readdirSync(folder)
        .some(name => isDue(parseName(name), now, isLast))
    )
  } catch {
    return false
  }
}

const isDue = (piece: Piece | undefined, now: number, isLast: boolean): boolean =>
  piece !== undefined && (isLast || piece.due <= now || piece.due > now + MAX_WAIT_MS)

/**
 * What others may write to or have made is not for us: they could have it run what they like.
 *
 * @returns why it is none of ours.
 */
export function faultOfFolder(folder: string): string | undefined {
  const stats = fs().lstatSync(folder, { throwIfNoEntry: false })
  if (!stats) return undefined
  if (!stats.isDirectory()) return 'it is no folder'
  return faultOfOwner(stats)
}

/** Of a folder or a file of the spool. */
export const faultOfOwner = (stats: { readonly uid: number; readonly mode: number }): string | undefined => {
  if (stats.uid !== process.getuid?.()) return 'it belongs to another user'
  return stats.mode & 0o077 ? 'others may read or write it' : undefined
}

/**
 * @param lane - Eight hexadecimal digits, the same for all that goes to one receiver.
 * @param isKeptBack - Whether nobody may take it yet. If this process dies, it may be taken when no invocation can last any
 * more.
 * @returns lets what is kept back be taken.
 * @throws PostInvokeError `ERR_SPOOL` when it cannot be written, or when too much waits. Nothing is accepted then.
 */
export type AddToSpool = (text: string, lane: string, isKeptBack?: boolean) => () => void

/** The function's end: accepts entries, synchronously. */
export function createSpoolWriter(folder: string): AddToSpool {
  let count = 0
  /** No less than what waits, counted when it seems too much: others take away. */
  let waiting = { entries: Number.POSITIVE_INFINITY, bytes: 0 }
  return add

  function add(text: string, lane: string, isKeptBack?: boolean) {
    const now = Date.now()
    const token = `${String(count++).padStart(6, '0')}${Math.random().toString(36).slice(2, 10)}`
    const part = `${folder}/part-${token}`
    const file = fileFor(now + (isKeptBack ? LONGEST_INVOCATION_MS : 0))
    try {
      reserve(Buffer.byteLength(text))
      try {
        fs().writeFileSync(part, text, { mode: 0o600 })
        fs().renameSync(part, file)
      } catch (error) {
        fs().rmSync(part, { force: true })
        throw error
      }
      return () => fs().renameSync(file, fileFor(Date.now()))
    } catch (error) {
      const { message } = error as Error
      throw new PostInvokeError('ERR_SPOOL', `Expected to write to the spool ${folder}, but ${message}.`, error)
    }

    /** The name as `parseName()` takes it apart. */
    function fileFor(due: number) {
      return `${folder}/${due}-${now}-00-00-${token}-${lane}.json`
    }
  }

  function reserve(bytes: number) {
    if (isFull(bytes) || !fs().existsSync(folder)) makeAndCount()
    if (isFull(bytes)) {
      const { entries, bytes } = MAX_WAITING
      throw new Error(`it holds ${waiting.entries} of ${entries} entries, and ${waiting.bytes} of ${bytes} bytes`)
    }
    waiting.entries++
    waiting.bytes += bytes
  }

  function isFull(bytes: number) {
    return waiting.entries >= MAX_WAITING.entries || waiting.bytes + bytes > MAX_WAITING.bytes
  }

  function makeAndCount() {
    try {
      // Not recursive: that never returns where a folder cannot be (in /proc).
      fs().mkdirSync(folder, { mode: 0o700 })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
    const fault = faultOfFolder(folder)
    if (fault !== undefined) throw new Error(fault)
    waiting = { entries: 0, bytes: 0 }
    for (const name of fs().readdirSync(folder)) {
      if (!/^(\d|part-)/.test(name)) continue // set aside, or a stranger's
      waiting.entries++
      waiting.bytes += fs().lstatSync(`${folder}/${name}`, { throwIfNoEntry: false })?.size ?? 0
    }
  }
}

const fs = (): Fs => builtIn('node:fs')
