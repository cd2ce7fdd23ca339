// The spool on a real file system: what is accepted lies there, is taken once at a time, and is gone when it is done; and
// what somebody else has put there is left alone.
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import fc from 'fast-check'
import { MAX_ENTRY_BYTES } from '../../src/hand-off/entry.ts'
import {
  createSpoolWriter,
  hasWaiting,
  LONGEST_INVOCATION_MS,
  MAX_WAIT_MS,
  MAX_WAITING,
  nameOf,
  parseName,
} from '../../src/hand-off/spool.ts'
import { type Claim, MAX_SET_ASIDE, SpoolReader } from '../../src/hand-off/spool-reader.ts'
import { thrownBy } from './helpers.ts'

let parent: string
let spool: string
beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'post-invoke-'))
  spool = join(parent, 'spool')
})
afterEach(() => {
  jest.restoreAllMocks()
  rmSync(parent, { recursive: true, force: true })
})

const LANE = '0123abcd'
const MINUTE = 60_000

/** A piece that is due. */
const planted = `${Date.now() - MINUTE}-${Date.now()}-00-00-planted-${LANE}.json`

const files = () => readdirSync(spool).sort()
const add = (text = 'text', writer = createSpoolWriter(spool)) => writer(text, LANE)
const take = (reader = new SpoolReader(spool), leaseEnd = Date.now() + MINUTE): Claim | undefined => {
  const [piece] = reader.list().filter(({ due }) => due <= Date.now())
  return piece && reader.take(piece, leaseEnd)
}
/** All that can be taken now, until nothing can. */
const texts = (reader = new SpoolReader(spool)) => {
  const all: (string | undefined)[] = []
  for (let claim = take(reader); claim; claim = take(reader)) all.push(claim.text)
  return all
}
/** A file of that many bytes, which takes none of the disk. */
const plant = (file: string, bytes = 0) => {
  writeFileSync(join(spool, file), '', { mode: 0o600 })
  truncateSync(join(spool, file), bytes)
}
/** The module that the spool takes its calls from. */
const fs = process.getBuiltinModule('node:fs')
/** Changes what the name of the only file says. */
const rename = (change: Partial<ReturnType<typeof parseName>>) => {
  const [file = ''] = files()
  const piece = parseName(file)
  if (!piece) throw new Error(`Expected a piece, got ${file}`)
  renameSync(join(spool, file), join(spool, nameOf({ ...piece, ...change })))
}

describe('the spool', () => {
  it('keeps what is accepted, in order, for its owner alone', () => {
    const writer = createSpoolWriter(spool)
    expect([hasWaiting(spool), new SpoolReader(spool).list()]).toEqual([false, []])
    jest.spyOn(Date, 'now').mockReturnValue(Date.now()) // all in one millisecond
    for (let index = 0; index < 12; index++) add(`text ${index}`, writer)
    const { readdirSync } = fs
    const inAnyOrder = (path: string) => readdirSync(path).reverse()
    jest.spyOn(fs, 'readdirSync').mockImplementation(inAnyOrder as never)
    expect(hasWaiting(spool)).toBe(true)
    expect(statSync(spool).mode & 0o777).toBe(0o700)
    for (const file of files()) expect(statSync(join(spool, file)).mode & 0o777).toBe(0o600)
    expect(texts()).toEqual(Array.from({ length: 12 }, (_, index) => `text ${index}`))
  })

  it('says in the name of each piece when somebody is to look at it', () => {
    const before = Date.now()
    add()
    const due = Number(files()[0]?.slice(0, 13))
    expect([due >= before, due <= Date.now(), files()[0]?.[13]]).toEqual([true, true, '-'])
    take()?.postpone(before + MINUTE)
    expect(files()[0]?.slice(0, 14)).toBe(`${before + MINUTE}-`)
  })

  it('is empty when all is done', () => {
    add()
    const reader = new SpoolReader(spool)
    const claim = take(reader)
    expect(reader.list()).toEqual([])
    claim?.done()
    expect([files(), hasWaiting(spool)]).toEqual([[], false])
  })

  it('gives what is to wait to nobody before it is due, and then with its attempts', () => {
    add()
    take()?.postpone(Date.now() + MINUTE)
    expect([texts(), hasWaiting(spool)]).toEqual([[], false])
    rename({ due: Date.now() })
    expect(hasWaiting(spool)).toBe(true)
    expect(take()?.piece).toMatchObject({ attempts: 2, deaths: 0 })
  })

  it('gives what somebody has taken to nobody else until the lease ends, and counts the death then', () => {
    add()
    take()
    expect([texts(), hasWaiting(spool)]).toEqual([[], false])
    rename({ due: Date.now() })
    expect(hasWaiting(spool)).toBe(true)
    expect(take()?.piece).toMatchObject({ attempts: 2, deaths: 1 })
  })

  it('lets a lease be renewed, and ends what was renewed', () => {
    add()
    const reader = new SpoolReader(spool)
    const claim = take(reader)
    claim?.renew(Date.now() + 2 * MINUTE)
    expect(Number(files()[0]?.slice(0, 13))).toBeGreaterThan(Date.now() + MINUTE)
    expect([reader.list(), new SpoolReader(spool).list()]).toEqual([[], [expect.objectContaining({ isTaken: true })]])
    claim?.done()
    expect(files()).toEqual([])
  })

  it('does nothing for who has lost his lease to another', () => {
    add()
    const late = take()
    rename({ due: Date.now() })
    const other = take()
    late?.postpone(0)
    late?.done()
    late?.setAside('failed')
    expect(files()).toHaveLength(1)
    other?.done()
    expect(files()).toEqual([])
  })

  it('takes a time that lies too far ahead for that of another clock', () => {
    add()
    rename({ due: Date.now() + MAX_WAIT_MS + MINUTE })
    expect(hasWaiting(spool)).toBe(true)
    expect(take()?.piece.attempts).toBe(1)
  })

  it('lets wait what is due in the longest time that there is', () => {
    add()
    const now = Date.now()
    jest.spyOn(Date, 'now').mockReturnValue(now)
    take()?.postpone(now + MAX_WAIT_MS)
    const [piece] = new SpoolReader(spool).list()
    expect([hasWaiting(spool), piece?.due]).toEqual([false, now + MAX_WAIT_MS])
  })

  it('gives fresh pieces before those that failed, and these before those whose process died', () => {
    for (const text of ['died', 'died before', 'failed', 'fresh']) {
      add(text)
      const newest = files().find(file => parseName(file)?.attempts === 0) ?? ''
      const piece = parseName(newest)
      if (!piece) throw new Error('Expected a fresh piece')
      const past = { ...piece, due: Date.now() - MINUTE }
      const changed = {
        died: { ...past, attempts: 1, isTaken: true },
        'died before': { ...past, due: past.due + 1, attempts: 2, deaths: 1 },
        failed: { ...past, due: past.due + 2, attempts: 1 },
        fresh: piece,
      }[text]
      renameSync(join(spool, newest), join(spool, nameOf(changed ?? piece)))
    }
    expect(texts()).toEqual(['fresh', 'failed', 'died', 'died before'])
  })

  it('keeps back what it is told to, until that is let go', () => {
    const release = createSpoolWriter(spool)('text', LANE, true)
    expect([texts(), hasWaiting(spool)]).toEqual([[], false])
    release()
    expect(texts()).toEqual(['text'])
  })

  it('removes what nobody has finished writing for longer than an invocation lasts, and nothing that is being written', () => {
    mkdirSync(spool, { mode: 0o700 })
    for (const file of ['part-old', 'part-new']) writeFileSync(join(spool, file), '{"half')
    mkdirSync(join(spool, 'part-folder')) // of somebody else
    const longAgo = Date.now() / 1_000 - 3_600
    for (const file of ['part-old', 'part-folder']) utimesSync(join(spool, file), longAgo, longAgo)
    const reader = new SpoolReader(spool)
    const { readdirSync } = fs
    // One is finished meanwhile.
    jest.spyOn(fs, 'readdirSync').mockImplementation(((path: string) => [...readdirSync(path), 'part-gone']) as never)
    const begun = statSync(join(spool, 'part-new')).mtimeMs
    const clock = jest.spyOn(Date, 'now').mockReturnValue(begun + LONGEST_INVOCATION_MS)
    expect([texts(reader), [...reader.strange]]).toEqual([[], []])
    expect(files()).toEqual(['part-folder', 'part-new'])
    clock.mockReturnValue(begun + LONGEST_INVOCATION_MS + 1)
    reader.list()
    jest.restoreAllMocks()
    expect(files()).toEqual(['part-folder'])
  })

  it('sets aside what it is told to, and keeps a few of it, the newest', () => {
    const writer = createSpoolWriter(spool)
    for (let index = 0; index < 40; index++) add(`bad ${index}`, writer)
    const reader = new SpoolReader(spool)
    const names = reader.list().map((piece, index) => {
      return reader.take(piece, Date.now() + MINUTE)?.setAside(index % 2 ? 'failed' : 'corrupt')
    })
    expect(files()).toEqual(names.slice(-MAX_SET_ASIDE).sort())
    expect(hasWaiting(spool)).toBe(false)
    expect(reader.list()).toEqual([])
    expect([...reader.strange]).toEqual([])
  })

  it('sets aside without touching what waits, however much that is', () => {
    const writer = createSpoolWriter(spool)
    for (let index = 0; index < 40; index++) add('text', writer)
    take()?.setAside('failed')
    expect(files()).toHaveLength(40)
  })

  it('is made again when it has gone', () => {
    const writer = createSpoolWriter(spool)
    add('first', writer)
    rmSync(spool, { recursive: true })
    add('second', writer)
    expect(texts()).toEqual(['second'])
  })

  it('takes no more than it may', () => {
    const writer = createSpoolWriter(spool)
    for (let index = 0; index < MAX_WAITING.entries; index++) add('text', writer)
    const full = { code: 'ERR_SPOOL', message: expect.stringContaining('but it holds 1000 of 1000 entries') }
    expect(thrownBy(() => add('one more', writer))).toMatchObject(full)
    expect(thrownBy(() => add('one more'))).toMatchObject(full)
    take()?.done()
    add('one more', writer)
    expect(files()).toHaveLength(MAX_WAITING.entries)
  })

  it.each(['a piece', 'a half-written one'])('takes no more bytes than it may, beside %s', what => {
    mkdirSync(spool, { mode: 0o700 })
    plant('failed-1-a-0123abcd.json', MAX_WAITING.bytes) // waits for nothing, like all else that is no piece
    plant(what === 'a piece' ? planted : 'part-1', MAX_WAITING.bytes - 10)
    const writer = createSpoolWriter(spool)
    add('x'.repeat(10), writer)
    for (const other of [writer, createSpoolWriter(spool)]) {
      const error = thrownBy(() => add('x', other))
      expect(error).toMatchObject({
        code: 'ERR_SPOOL',
        message: expect.stringMatching(
          /^Expected to write to the spool .*, but it holds \d of 1000 entries, and \d+ of 67108864 bytes\.$/,
        ),
      })
    }
    expect(files()).toHaveLength(3)
  })

  it('counts what waits when it has to, and not for each entry', () => {
    const writer = createSpoolWriter(spool)
    const look = jest.spyOn(fs, 'readdirSync')
    for (let index = 0; index < 5; index++) add('text', writer)
    expect(look).toHaveBeenCalledTimes(1)
  })

  it('can count while others take away', () => {
    add()
    const { readdirSync } = fs
    jest.spyOn(fs, 'readdirSync').mockImplementationOnce(((path: string) => {
      const names = readdirSync(path)
      take()?.done()
      return names
    }) as never)
    add('another')
    expect(texts()).toEqual(['another'])
  })

  it.each(['ENOTDIR', 'ENOENT'])('says what is wrong where it cannot be made: %s', code => {
    writeFileSync(join(parent, 'ENOTDIR'), '')
    const error = thrownBy(() => createSpoolWriter(join(parent, code, 'spool'))('text', LANE))
    expect(error).toMatchObject({ code: 'ERR_SPOOL', message: expect.stringMatching(`but ${code}: .*, mkdir`) })
    expect(hasWaiting(join(parent, 'ENOTDIR'))).toBe(false)
  })

  it.each(['nothing', 'half of it'])(
    'says that there is no room, and keeps no half entry, when %s was written',
    what => {
      const writer = createSpoolWriter(spool)
      const { writeFileSync } = fs
      jest.spyOn(fs, 'writeFileSync').mockImplementationOnce(((path: string, text: string, options: object) => {
        if (what !== 'nothing') writeFileSync(path, text.slice(2), options)
        throw new Error('ENOSPC: no space left on device, write')
      }) as never)
      const error = thrownBy(() => add('text', writer))
      expect(error).toMatchObject({ code: 'ERR_SPOOL', message: expect.stringContaining('but ENOSPC: no space') })
      expect(files()).toEqual([])
      add('text', writer)
      expect(texts()).toEqual(['text'])
    },
  )

  it('gives back what was not begun, without an attempt', () => {
    add()
    take()?.giveBack()
    expect(hasWaiting(spool)).toBe(true)
    expect(take()?.piece).toMatchObject({ attempts: 1, deaths: 0 })
  })

  it('lets a piece be read and put off without taking it', () => {
    add()
    const reader = new SpoolReader(spool)
    const [piece] = reader.list()
    if (!piece) throw new Error('Expected a piece')
    expect(reader.peek(piece)).toBe('text')
    const due = Date.now() + MINUTE
    expect(reader.postpone(piece, due)).toEqual([{ ...piece, due }])
    expect([reader.peek(piece), reader.postpone(piece, due), reader.take(piece, due)]).toEqual([
      undefined,
      [],
      undefined,
    ])
    expect(reader.list()).toEqual([{ ...piece, due }])
    expect(reader.strange.size).toBe(0)
  })

  it('says what cannot be read, and takes it: somebody has to set it aside', () => {
    add()
    const reader = new SpoolReader(spool)
    const [piece] = reader.list()
    const failure = new Error('EIO: i/o error, read')
    jest.spyOn(fs, 'readFileSync').mockImplementation(() => {
      throw failure
    })
    expect(piece && reader.peek(piece)).toBeUndefined()
    const claim = take(reader)
    expect(claim).toMatchObject({ text: '', fault: failure })
    expect(claim?.setAside('corrupt')).toBe(files()[0])
  })

  it('is left by who finds that another was faster', () => {
    add()
    const reader = new SpoolReader(spool)
    const [piece] = reader.list()
    jest.spyOn(fs, 'renameSync').mockImplementationOnce(() => {
      throw new Error('ENOENT')
    })
    expect(piece && reader.take(piece, Date.now() + MINUTE)).toBeUndefined()
  })

  it('is empty where it cannot be looked into', () => {
    add()
    const reader = new SpoolReader(spool)
    jest.spyOn(fs, 'readdirSync').mockImplementation(() => {
      throw new Error('EIO')
    })
    expect([reader.list(), reader.strange.size]).toEqual([[], 0])
  })

  it('leaves no file open', () => {
    for (const text of ['one', 'other']) add(text)
    const reader = new SpoolReader(spool)
    const countOpen = () => readdirSync('/proc/self/fd').length
    const before = countOpen()
    const [piece] = reader.list()
    if (piece) reader.peek(piece)
    texts(reader)
    writeFileSync(join(spool, planted), 'x'.repeat(MAX_ENTRY_BYTES + 1), { mode: 0o600 })
    texts(reader)
    expect(countOpen()).toBe(before)
  })

  it('gives each entry to one of several readers', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(2), { minLength: 1, maxLength: 40 }), turns => {
        rmSync(spool, { recursive: true, force: true })
        const writer = createSpoolWriter(spool)
        for (let index = 0; index < 10; index++) add(String(index), writer)
        const readers = [0, 1, 2].map(() => new SpoolReader(spool))
        const lists = readers.map(reader => reader.list()) // all have seen all
        const taken = turns.flatMap(turn => {
          const piece = lists[turn]?.shift()
          const claim = piece && readers[turn]?.take(piece, Date.now() + MINUTE)
          return claim ? [claim.text] : []
        })
        expect(new Set(taken).size).toBe(taken.length)
      }),
      { numRuns: 50 },
    )
  })
})

describe('the name of a piece', () => {
  it('says all of it, for any', () => {
    const time = fc.nat(9_999_999_999_999)
    const count = fc.nat(99)
    const piece = fc.record({
      due: time,
      accepted: time,
      attempts: count,
      deaths: count,
      token: fc.stringMatching(/^[0-9a-z]{1,24}$/),
      lane: fc.stringMatching(/^[0-9a-f]{8}$/),
      isTaken: fc.boolean(),
    })
    fc.assert(fc.property(piece, one => expect(parseName(nameOf(one))).toEqual(one)))
  })
})

describe('what somebody else has put there', () => {
  const foreign: [string, (path: string) => void, string][] = [
    ['a folder that others may read', path => mkdirSync(path, { mode: 0o755 }), 'others may read or write it'],
    [
      'a folder that others may write to',
      path => chmodSync(mkdirSync(path, { recursive: true }) ?? path, 0o777),
      'others may read or write it',
    ],
    ['a link', path => symlinkSync(mkdtempSync(join(parent, 'target-')), path), 'it is no folder'],
    ['a file', path => writeFileSync(path, ''), 'it is no folder'],
  ]
  if (process.getuid?.() === 0) {
    foreign.push([
      'a folder of another user',
      path => {
        mkdirSync(path, { mode: 0o700 })
        chownSync(path, 12_345, 12_345)
      },
      'it belongs to another user',
    ])
  }

  it.each(foreign)('in place of the folder is neither written nor read: %s', (_what, make, why) => {
    make(spool)
    expect(thrownBy(() => add())).toMatchObject({
      code: 'ERR_SPOOL',
      message: `Expected to write to the spool ${spool}, but ${why}.`,
    })
    const reader = new SpoolReader(spool)
    expect([reader.list(), [...reader.strange]]).toEqual([[], [['', why]]])
  })

  const inPlaceOfFiles: [string, (path: string) => void, string][] = [
    ['a file that others may read', path => writeFileSync(path, 'text', { mode: 0o644 }), 'others may'],
    ['a link', path => symlinkSync(join(parent, 'elsewhere'), path), 'it is a link'],
    ['a FIFO', path => void spawnSync('mkfifo', ['-m', '600', path]), 'it is no file'],
    ['a folder', path => mkdirSync(path, { mode: 0o700 }), 'it is no file'],
    ['too much', path => writeFileSync(path, 'x'.repeat(MAX_ENTRY_BYTES + 1), { mode: 0o600 }), 'it is too large'],
  ]
  if (process.getuid?.() === 0) {
    inPlaceOfFiles.push([
      'a file of another user',
      path => {
        writeFileSync(path, 'text', { mode: 0o600 })
        chownSync(path, 12_345, 12_345)
      },
      'it belongs to another user',
    ])
  }

  it('in place of a file is left where it cannot be opened, and not tried again', () => {
    add()
    const [file = ''] = files()
    const open = jest.spyOn(fs, 'openSync').mockImplementation(() => {
      throw Object.assign(new Error('permission denied'), { code: 'EACCES' })
    })
    const reader = new SpoolReader(spool)
    expect([texts(reader), texts(reader)]).toEqual([[], []])
    expect(reader.strange.get(file)).toBe('it cannot be opened (EACCES)')
    expect(open).toHaveBeenCalledTimes(1)
  })

  it.each(inPlaceOfFiles)('in place of a file is left: %s', (_what, make, why) => {
    mkdirSync(spool, { mode: 0o700 })
    writeFileSync(join(parent, 'elsewhere'), 'text', { mode: 0o600 })
    make(join(spool, planted))
    const reader = new SpoolReader(spool)
    expect(texts(reader)).toEqual([])
    expect(reader.strange.get(planted)).toContain(why)
    expect(files()).toEqual([planted])
  })

  it.each([
    'a.json',
    'x'.repeat(200),
    'evil\n.json',
    `${'9'.repeat(13)}-x.json`,
    `x${planted}`,
    `${planted}~`,
    'xfailed-1-a-0.json',
    'failed-1-a-0.json~',
  ])('under another name is left', file => {
    mkdirSync(spool, { mode: 0o700 })
    writeFileSync(join(spool, file), 'text', { mode: 0o600 })
    const reader = new SpoolReader(spool)
    expect([texts(reader), hasWaiting(spool), hasWaiting(spool, true), files()]).toEqual([[], false, false, [file]])
    expect(reader.strange.get(file)).toBe('no piece of work has such a name')
  })
})
