// The spool on a real file system: what is accepted lies there, is taken once at a time, and is gone when it is done.
import { spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { hasWaiting, MAX_WAITING, SpoolReader, SpoolWriter } from '../../src/hand-off/spool.ts'
import { thrownBy } from './helpers.ts'

let parent: string
let spool: string
beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'post-invoke-'))
  spool = join(parent, 'spool')
})
afterEach(() => rmSync(parent, { recursive: true, force: true }))

const files = () => readdirSync(spool).sort()
const texts = (reader = new SpoolReader(spool)) => reader.list().map(name => reader.take(name)?.text)
const deadPid = () => spawnSync(process.execPath, ['-e', '']).pid

describe('the spool', () => {
  it('keeps what is accepted, in order, for its owner alone', () => {
    const writer = new SpoolWriter(spool)
    expect(hasWaiting(spool)).toBe(false)
    for (let index = 0; index < 12; index++) writer.add(`text ${index}`)
    expect(hasWaiting(spool)).toBe(true)
    expect(statSync(spool).mode & 0o777).toBe(0o700)
    for (const file of files()) expect(statSync(join(spool, file)).mode & 0o777).toBe(0o600)
    expect(texts()).toEqual(Array.from({ length: 12 }, (_, index) => `text ${index}`))
  })

  it('is empty when all is done', () => {
    new SpoolWriter(spool).add('text')
    const reader = new SpoolReader(spool)
    const claim = reader.take(reader.list()[0] as string)
    expect(reader.list()).toEqual([])
    expect(hasWaiting(spool)).toBe(true)
    claim?.done()
    expect([files(), hasWaiting(spool)]).toEqual([[], false])
  })

  it('gives what was given back again, to anybody', () => {
    new SpoolWriter(spool).add('text')
    const reader = new SpoolReader(spool)
    reader.take(reader.list()[0] as string)?.giveBack()
    expect(texts()).toEqual(['text'])
  })

  it('gives what somebody has taken who lives to nobody else, and what the dead had taken to anybody', () => {
    new SpoolWriter(spool).add('text')
    const [file = ''] = files()
    renameSync(join(spool, file), join(spool, `${file}.${process.ppid}-abc`))
    expect(texts()).toEqual([])
    renameSync(join(spool, `${file}.${process.ppid}-abc`), join(spool, `${file}.${deadPid()}-abc`))
    expect(texts()).toEqual(['text'])
  })

  it('takes from a process that died, though another has its number now', () => {
    new SpoolWriter(spool).add('text')
    const [file = ''] = files()
    const holder = new SpoolReader(spool)
    holder.take(file)
    const [taken = ''] = files()
    const [, start] = /\.json\.\d+\.(\d+)-/.exec(taken) ?? []
    expect([Number(start) > 0, texts()]).toEqual([true, []])
    renameSync(join(spool, taken), join(spool, taken.replace(/(.*)\.\d+-/, `$1.${Number(start) - 1}-`)))
    expect(texts()).toEqual(['text'])
  })

  it('keeps back what it is told to, until that is let go', () => {
    const release = new SpoolWriter(spool).add('text', true)
    expect([texts(), hasWaiting(spool)]).toEqual([[], true])
    release()
    expect(texts()).toEqual(['text'])
  })

  it('removes what a process that died had not finished writing, and nothing that is being written', () => {
    mkdirSync(spool, { mode: 0o700 })
    const [alive, dead] = [`0-000000-${process.pid}-abc.part`, `0-000000-${deadPid()}-abc.part`]
    for (const file of [alive, dead]) writeFileSync(join(spool, file), '{"half')
    expect(texts()).toEqual([])
    expect(files()).toEqual([alive])
  })

  it('sets aside what cannot be read, and keeps a few of it', () => {
    const writer = new SpoolWriter(spool)
    for (let index = 0; index < 20; index++) writer.add(`bad ${index}`)
    const reader = new SpoolReader(spool)
    for (const name of reader.list()) reader.take(name)?.setAside()
    expect(files()).toHaveLength(16)
    expect(files().every(file => file.endsWith('.corrupt'))).toBe(true)
    expect(hasWaiting(spool)).toBe(false)
  })

  it('is made again when it has gone', () => {
    const writer = new SpoolWriter(spool)
    writer.add('first')
    rmSync(spool, { recursive: true })
    writer.add('second')
    expect(texts()).toEqual(['second'])
  })

  it('takes no more than it may', () => {
    const writer = new SpoolWriter(spool)
    for (let index = 0; index < MAX_WAITING.entries; index++) writer.add('text')
    const full = { code: 'ERR_SPOOL', message: expect.stringContaining('Expected fewer than 1000 entries') }
    expect(thrownBy(() => writer.add('one more'))).toMatchObject(full)
    expect(thrownBy(() => new SpoolWriter(spool).add('one more'))).toMatchObject(full)
    const reader = new SpoolReader(spool)
    reader.take(reader.list()[0] as string)?.done()
    writer.add('one more')
    expect(files()).toHaveLength(MAX_WAITING.entries)
  })

  it('takes no more bytes than it may', () => {
    const writer = new SpoolWriter(spool)
    writer.add('x'.repeat(MAX_WAITING.bytes - 10))
    expect(thrownBy(() => writer.add('x'.repeat(20)))).toMatchObject({ code: 'ERR_SPOOL' })
    expect(files()).toHaveLength(1)
  })

  const foreign: [string, (path: string) => void][] = [
    ['a folder that others may read', path => mkdirSync(path, { mode: 0o755 })],
    ['a link', path => symlinkSync(mkdtempSync(join(parent, 'target-')), path)],
    ['a file', path => writeFileSync(path, '')],
  ]
  it.each(foreign)('is not %s', (_what, make) => {
    make(spool)
    expect(thrownBy(() => new SpoolWriter(spool).add('text'))).toMatchObject({ code: 'ERR_SPOOL' })
  })

  it('says what is wrong where it cannot be written, and leaves no half entry', () => {
    writeFileSync(join(parent, 'file'), '')
    const error = thrownBy(() => new SpoolWriter(join(parent, 'file', 'spool')).add('text'))
    expect(error).toMatchObject({ code: 'ERR_SPOOL', message: expect.stringContaining('ENOTDIR') })
    expect(existsSync(spool)).toBe(false)
  })

  it('gives each entry to one of several readers', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(2), { minLength: 1, maxLength: 40 }), turns => {
        rmSync(spool, { recursive: true, force: true })
        const writer = new SpoolWriter(spool)
        for (let index = 0; index < 10; index++) writer.add(String(index))
        const readers = [0, 1, 2].map(() => new SpoolReader(spool))
        const lists = readers.map(reader => reader.list()) // all have seen all
        const taken = turns.flatMap(turn => {
          const claim = readers[turn]?.take(lists[turn]?.shift() ?? '')
          return claim ? [claim.text] : []
        })
        expect(new Set(taken).size).toBe(taken.length)
      }),
      { numRuns: 50 },
    )
  })
})
