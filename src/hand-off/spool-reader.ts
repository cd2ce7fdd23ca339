// The end of the spool that runs what waits: takes pieces, and says what became of them. It trusts nothing that it finds.
import { builtIn } from '../built-in.ts'
import { MAX_ENTRY_BYTES } from './entry.ts'
import {
  faultOfFolder,
  faultOfOwner,
  LONGEST_INVOCATION_MS,
  MAX_WAIT_MS,
  nameOf,
  type Piece,
  parseName,
} from './spool.ts'

/** A piece that this process has taken. Each of its ends does nothing where somebody else has taken it meanwhile. */
export type Claim = {
  /** With the attempt that begins now, and the death of who had it before. */
  readonly piece: Piece
  readonly text: string
  /** Why there is no text. */
  readonly fault?: Error
  /** It is gone. */
  done(): void
  /** It waits until then. */
  postpone(due: number): void
  /** It is due, and no attempt was made. */
  giveBack(): void
  /** The lease ends later. */
  renew(leaseEnd: number): void
  /** @returns under which name it lies there, to be looked at. */
  setAside(why: 'failed' | 'corrupt'): string
}

/** How many pieces are kept that are set aside, the newest. With the bound of each that is 8 MiB. */
export const MAX_SET_ASIDE = 32

export class SpoolReader {
  readonly #folder: string
  /** The names of what this process has taken and not ended. */
  readonly #taken = new Set<string>()
  /** What lies there and is none of the spool's, with the reason. It is left alone. */
  readonly strange = new Map<string, string>()

  constructor(folder: string) {
    this.#folder = folder
  }

  /**
   * @returns what waits, and what others have taken: fresh ones first, then those that have failed before, then those whose
   * process has died. Each of these by the time at which it is due.
   */
  list(): Piece[] {
    const fault = faultOfFolder(this.#folder)
    if (fault !== undefined) {
      this.strange.set('', fault)
      return []
    }
    const now = Date.now()
    const pieces = this.#read()
      .sort()
      .flatMap(name => {
        if (this.#taken.has(name) || this.strange.has(name)) return []
        const piece = parseName(name)
        if (piece) return piece.due > now + MAX_WAIT_MS ? this.#rename(piece, { ...piece, due: now }) : piece
        if (name.startsWith('part-')) this.#removeIfOld(name, now)
        else if (!isSetAside(name)) this.strange.set(name, 'no piece of work has such a name')
        return []
      })
    return pieces.sort((a, b) => rankOf(a) - rankOf(b))
  }

  /**
   * @param leaseEnd - When it is anybody's again, unless this process has said by then what became of it.
   * @returns `undefined` when somebody else was faster, or when it is no file of ours.
   */
  take(piece: Piece, leaseEnd: number): Claim | undefined {
    const file = this.#open(nameOf(piece))
    if (file === undefined) return undefined
    try {
      const [taken] = this.#rename(piece, {
        ...piece,
        due: leaseEnd,
        attempts: piece.attempts + 1,
        // Who had taken it would have said by now what became of it.
        deaths: piece.deaths + Number(piece.isTaken),
        isTaken: true,
      })
      if (!taken) return undefined
      const claim = this.#claim(taken)
      try {
        return { text: fs().readFileSync(file, 'utf8'), ...claim }
      } catch (error) {
        return { text: '', fault: error as Error, ...claim }
      }
    } finally {
      fs().closeSync(file)
    }
  }

  #claim(piece: Piece): Omit<Claim, 'text'> {
    let current = piece
    const renameTo = (next: Piece) => {
      this.#taken.delete(nameOf(current))
      const [renamed] = this.#rename(current, next)
      if (renamed?.isTaken) this.#taken.add(nameOf(renamed))
      current = renamed ?? current
    }
    this.#taken.add(nameOf(piece))
    return {
      piece,
      done: () => {
        this.#taken.delete(nameOf(current))
        this.#remove(nameOf(current))
      },
      postpone: due => renameTo({ ...current, due, isTaken: false }),
      giveBack: () => renameTo({ ...current, due: Date.now(), attempts: piece.attempts - 1, isTaken: false }),
      renew: leaseEnd => renameTo({ ...current, due: leaseEnd }),
      setAside: why => {
        const { accepted, token, lane } = current
        const name = `${why}-${accepted}-${token}-${lane}.json`
        this.#taken.delete(nameOf(current))
        this.#renameFile(nameOf(current), name)
        this.#removeOldestSetAside()
        return name
      },
    }
  }

  /**
   * Nobody has begun it, and nobody is to before then.
   *
   * @returns the piece as it is now; none when it has gone.
   */
  postpone(piece: Piece, due: number): [Piece] | [] {
    return this.#rename(piece, { ...piece, due })
  }

  /** @returns what it says, without taking it. */
  peek(piece: Piece): string | undefined {
    const file = this.#open(nameOf(piece))
    if (file === undefined) return undefined
    try {
      return fs().readFileSync(file, 'utf8')
    } catch {
      return undefined // whoever takes it sees why
    } finally {
      fs().closeSync(file)
    }
  }

  /** What is no regular file of this user's alone is not read. A FIFO must not block us, and a link lead nowhere. */
  #open(name: string): number | undefined {
    const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = fs().constants
    let file: number
    try {
      file = fs().openSync(`${this.#folder}/${name}`, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code !== 'ENOENT') this.strange.set(name, code === 'ELOOP' ? 'it is a link' : `it cannot be opened (${code})`)
      return undefined
    }
    const stats = fs().fstatSync(file)
    const fault = !stats.isFile()
      ? 'it is no file'
      : stats.size > MAX_ENTRY_BYTES
        ? 'it is too large'
        : faultOfOwner(stats)
    if (fault === undefined) return file
    this.strange.set(name, fault)
    fs().closeSync(file)
    return undefined
  }

  #removeIfOld(name: string, now: number) {
    const stats = fs().lstatSync(`${this.#folder}/${name}`, { throwIfNoEntry: false })
    if (stats?.isFile() && now - stats.mtimeMs > LONGEST_INVOCATION_MS) this.#remove(name)
  }

  #removeOldestSetAside() {
    const age = (name: string) => name.slice(name.indexOf('-'))
    const newestFirst = this.#read()
      .filter(isSetAside)
      .sort((a, b) => (age(a) < age(b) ? 1 : -1))
    for (const name of newestFirst.slice(MAX_SET_ASIDE)) this.#remove(name)
  }

  #read(): string[] {
    try {
      return fs().readdirSync(this.#folder)
    } catch {
      return []
    }
  }

  /** @returns the piece under its new name; none when it has gone. */
  #rename(piece: Piece, next: Piece): [Piece] | [] {
    return this.#renameFile(nameOf(piece), nameOf(next)) ? [parseName(nameOf(next)) as Piece] : []
  }

  #renameFile(from: string, to: string): boolean {
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

/** Whether it was being run when a process died: it may be what has killed it. */
export const isSuspect = ({ deaths, isTaken }: Piece): boolean => deaths > 0 || isTaken

const rankOf = (piece: Piece): number => (isSuspect(piece) ? 2 : Number(piece.attempts > 0))

const isSetAside = (name: string) => /^(failed|corrupt)-\d+-[0-9a-z]+-[0-9a-f]+\.json$/.test(name)

const fs = (): typeof import('node:fs') => builtIn('node:fs')
