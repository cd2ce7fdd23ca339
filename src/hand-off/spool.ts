// The spool: a folder of this user's alone in which each piece of handed-off work is a file. It is in /tmp, which survives
// the function's process, the companion's and a reset of the environment.
//
//   NAME.json                 accepted; names are in the order of acceptance
//   NAME.json.PID.START-TOKEN taken by a process that runs it now, or kept back by one until its response has left
//   NAME.part                 being written; a process that dies meanwhile leaves it behind, and has accepted nothing
//   NAME.corrupt              unreadable, set aside
//
// A file of its own for each, and no log that is appended to: accepting is a rename, taking is a rename, and done is an
// unlink, each atomic between processes; nothing has to be compacted, and one bad entry spoils no other.
import { PostInvokeError } from '../errors.ts'

type Fs = typeof import('node:fs')

/** How much waits at the most. A function's /tmp has 512 MB by default. */
export const MAX_WAITING = { entries: 1_000, bytes: 67_108_864 }

/** How many unreadable entries are kept to look at. */
const MAX_CORRUPT = 16

/** Longer than any invocation: who has taken something for longer has died, though a process may have its number. */
const LONGEST_CLAIM_MS = 900_000

const fs = (): Fs => process.getBuiltinModule('node:fs')

/** Whether something waits there. Cheap: asked in each invocation. */
export const hasWaiting = (folder: string): boolean => {
  try {
    return fs().existsSync(folder) && fs().readdirSync(folder).some(isWaitingOrTaken)
  } catch {
    return false
  }
}

const isWaitingOrTaken = (name: string) => name.includes('.json') || name.endsWith('.part')

/** When a process started, in ticks since the kernel did (proc(5)): a number that has been given to another tells so. */
const startOf = (pid: number | 'self'): string | undefined => {
  try {
    const text = fs().readFileSync(`/proc/${pid}/stat`, 'utf8')
    return text.slice(text.lastIndexOf(')') + 2).split(' ')[19]
  } catch {
    return undefined
  }
}

let ownStart: string | undefined

/** PID.START-TOKEN of a reader or writer of this process. After a reset of the environment numbers are given out anew. */
const makeToken = (): string => {
  ownStart ??= startOf('self') ?? ''
  return `${process.pid}.${ownStart}-${Math.random().toString(36).slice(2, 8)}`
}

/** The function's end: accepts entries, synchronously. */
export class SpoolWriter {
  readonly #folder: string
  readonly #token = makeToken()
  #isMade = false
  #count = 0
  /** No less than what waits, counted anew when it seems too much: others take away. */
  #waiting = { entries: 0, bytes: 0 }

  constructor(folder: string) {
    this.#folder = folder
  }

  /**
   * @param isKeptBack - Whether nobody may take it yet, as long as this process lives.
   * @returns lets it be taken.
   * @throws PostInvokeError `ERR_SPOOL` when it cannot be written, or when too much waits. Nothing is accepted then.
   */
  add(text: string, isKeptBack = false): () => void {
    try {
      if (!this.#isMade || !fs().existsSync(this.#folder)) this.#make()
      this.#reserve(Buffer.byteLength(text))
      const time = Date.now().toString(36).padStart(9, '0')
      const path = `${this.#folder}/${time}-${String(this.#count++).padStart(6, '0')}-${this.#token}`
      try {
        fs().writeFileSync(`${path}.part`, text, { flag: 'wx', mode: 0o600 })
        const accepted = isKeptBack ? `${path}.json.${this.#token}` : `${path}.json`
        fs().renameSync(`${path}.part`, accepted)
        return () => {
          if (isKeptBack) fs().renameSync(accepted, `${path}.json`)
        }
      } catch (error) {
        fs().rmSync(`${path}.part`, { force: true })
        throw error
      }
    } catch (error) {
      this.#isMade = false
      if (error instanceof PostInvokeError) throw error
      throw new PostInvokeError(
        'ERR_SPOOL',
        `Expected to write to the spool ${this.#folder}, got ${(error as Error).message}. Make room in /tmp, or set POST_INVOKE_SPOOL.`,
        error,
      )
    }
  }

  /** What others may write to or have made is not for us: they could have it run what they like. */
  #make() {
    try {
      // Not recursive: that never returns where a folder cannot be (in /proc).
      fs().mkdirSync(this.#folder, { mode: 0o700 })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
    const stats = fs().lstatSync(this.#folder)
    if (!stats.isDirectory() || stats.uid !== process.getuid?.() || stats.mode & 0o077) {
      throw new PostInvokeError(
        'ERR_SPOOL',
        `Expected the spool ${this.#folder} to be a folder of this user's alone (mode 0700). Remove it, or set POST_INVOKE_SPOOL.`,
      )
    }
    this.#isMade = true
    this.#countWaiting()
  }

  #reserve(bytes: number) {
    const isTooMuch = () =>
      this.#waiting.entries >= MAX_WAITING.entries || this.#waiting.bytes + bytes > MAX_WAITING.bytes
    if (isTooMuch()) this.#countWaiting()
    if (isTooMuch()) {
      throw new PostInvokeError(
        'ERR_SPOOL',
        `Expected fewer than ${MAX_WAITING.entries} entries and ${MAX_WAITING.bytes} bytes in the spool ${this.#folder}, got ${this.#waiting.entries} entries of ${this.#waiting.bytes} bytes. Hand off less, or raise the function's timeout.`,
      )
    }
    this.#waiting.entries++
    this.#waiting.bytes += bytes
  }

  #countWaiting() {
    const names = fs().readdirSync(this.#folder).filter(isWaitingOrTaken)
    const sizes = names.map(name => fs().statSync(`${this.#folder}/${name}`, { throwIfNoEntry: false })?.size ?? 0)
    this.#waiting = { entries: names.length, bytes: sizes.reduce((sum, size) => sum + size, 0) }
  }
}

/** An entry that this process has taken. */
export type Claim = {
  readonly text: string
  /** Why there is no text. */
  readonly fault?: Error
  /** Done, or given up: it is gone. */
  done(): void
  /** Somebody else may take it, or we ourselves later. */
  giveBack(): void
  /** It is unreadable. */
  setAside(): void
}

/** The companion's end: takes entries, the oldest first. */
export class SpoolReader {
  readonly #folder: string
  readonly #token = makeToken()
  readonly #taken = new Set<string>()

  constructor(folder: string) {
    this.#folder = folder
  }

  /** @returns what waits, by name, the oldest first. What the dead had taken waits again. */
  list(): string[] {
    const names = this.#read()
    for (const name of names) {
      const [, entry, holder] = /^(.+\.json)\.(.+)$/.exec(name) ?? []
      if (entry && holder && !this.#taken.has(entry) && this.#isDead(name, holder)) this.#rename(name, entry)
      if (name.endsWith('.part') && this.#isDead(name, name.split('-').slice(2).join('-'))) this.#remove(name)
    }
    return this.#read()
      .filter(name => name.endsWith('.json'))
      .sort()
  }

  /** @returns `undefined` when somebody else was faster. */
  take(name: string): Claim | undefined {
    const own = `${name}.${this.#token}`
    if (!this.#rename(name, own)) return undefined
    this.#taken.add(name)
    const end = (act: () => void) => () => {
      this.#taken.delete(name)
      act()
    }
    const claim = {
      done: end(() => this.#remove(own)),
      giveBack: end(() => this.#rename(own, name)),
      setAside: end(() => this.#setAside(own, name)),
    }
    try {
      return { text: fs().readFileSync(`${this.#folder}/${own}`, 'utf8'), ...claim }
    } catch (error) {
      return { text: '', fault: error as Error, ...claim }
    }
  }

  #setAside(own: string, name: string) {
    this.#rename(own, name.replace(/\.json$/, '.corrupt'))
    const all = this.#read().filter(other => other.endsWith('.corrupt'))
    for (const oldest of all.sort().slice(0, -MAX_CORRUPT)) this.#remove(oldest)
  }

  /** `holder`: PID.START-TOKEN. */
  #isDead(name: string, holder: string): boolean {
    const stats = fs().statSync(`${this.#folder}/${name}`, { throwIfNoEntry: false })
    if (!stats) return false
    if (Date.now() - stats.ctimeMs > LONGEST_CLAIM_MS) return true
    const [, pid, start] = /^(\d+)(?:\.(\d+))?-/.exec(holder) ?? []
    try {
      process.kill(Number(pid), 0)
      const current = start === undefined ? undefined : startOf(Number(pid))
      return current !== undefined && current !== start
    } catch (error) {
      return (error as NodeJS.ErrnoException).code !== 'EPERM'
    }
  }

  #read(): string[] {
    try {
      return fs().readdirSync(this.#folder)
    } catch {
      return []
    }
  }

  #rename(from: string, to: string): boolean {
    try {
      fs().renameSync(`${this.#folder}/${from}`, `${this.#folder}/${to}`)
      return true
    } catch {
      return false
    }
  }

  #remove(name: string) {
    try {
      fs().unlinkSync(`${this.#folder}/${name}`)
    } catch {}
  }
}
