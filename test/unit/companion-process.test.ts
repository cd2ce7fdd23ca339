// What the companion's process is told, and how: through real FIFOs and files in a folder of each test's own, and a real bash.
import childProcess, { type ChildProcess } from 'node:child_process'
import fs from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import { openOwn, pipePath, type Script, startScript } from '../../src/middleware/companion-pipe.ts'
import { type Companion, createCompanion } from '../../src/middleware/companion-process.ts'
import { startApiThread } from '../support/extensions-api-thread.ts'
import { recordLog, until } from './helpers.ts'
import { type PipeReader, startPipeReader, temporaryFolder } from './pipe-reader.ts'

const API = '127.0.0.1:9001'
const isRoot = process.getuid?.() === 0
const STRANGER = 12_345

let folder: string
let reader: PipeReader
let log = recordLog()
/** The next lines of last words. */
let lines: string[] = []

beforeEach(() => {
  folder = temporaryFolder()
  reader = startPipeReader(API, folder)
  log = recordLog() // another one: what an earlier test has left says so late
})
afterEach(() => {
  jest.restoreAllMocks()
  reader.close()
  fs.rmSync(folder, { recursive: true, force: true })
})

const wordsPath = () => join(folder, 'pipe.tasks')

const tell = (fd: number, socket?: Script) =>
  createCompanion(fd, socket, wordsPath(), { ...log, line: () => `${lines.shift()}\n` }, true)

const opened = () => tell(openOwn(pipePath(folder, API), true))

/** Tells it that an invocation has settled: one line. */
const settle = (companion: Companion, requestId = 'r1') => companion.reporter?.(requestId).settle()

describe('a pipe with a reader', () => {
  it('takes lines in their order', () => {
    const companion = opened()
    settle(companion)
    settle(companion, 'r2')
    expect(reader.lines()).toEqual(['open', 'settled 1 r1', 'settled 2 r2'])
    expect(companion.isGone?.()).toBe(false)
  })

  it('is not inherited by children, which would keep it open', () => {
    opened()
    const names = childProcess.execFileSync('/bin/ls', ['-l', '/proc/self/fd'], { encoding: 'utf8' })
    expect(names).not.toContain(reader.path)
  })

  it('whose reader is stopped takes all that is written, and loses and waits for nothing', async () => {
    const write = jest.spyOn(fs, 'writeSync')
    const companion = opened()
    const line = (index: number) => `settled ${index} ${'x'.repeat(8)}`
    const timersThatKeep = () => process.getActiveResourcesInfo().filter(name => name === 'Timeout').length
    const before = timersThatKeep()
    // More than fits: the pipe takes 64 KB.
    for (let index = 1; index <= 4_000; index++) settle(companion, 'x'.repeat(36))
    expect(companion.isGone?.()).toBe(false)
    expect(write.mock.calls.length).toBeLessThan(4_000) // a full one is tried again later, and not with each line
    expect(timersThatKeep()).toBe(before) // the process may end
    const told = reader.lines().slice(1)
    expect(told.length).toBeGreaterThan(100)
    expect(told.length).toBeLessThan(4_000)
    await until(() => {
      told.push(...reader.lines())
      return told.length >= 4_000
    })
    expect(told).toEqual(Array.from({ length: 4_000 }, (_, index) => line(index + 1)))
    expect(log.lines).toEqual([])
  })

  it('whose reader never goes on is given up', async () => {
    const companion = opened()
    for (let index = 0; index < 10_000; index++) settle(companion, 'x'.repeat(36))
    await until(() => companion.isGone?.() === true)
    expect(log.codes).toEqual(['WARN_LAYER_GONE'])
  })

  it('whose reader dies says so once, and throws nothing', () => {
    const write = jest.spyOn(fs, 'writeSync')
    const companion = opened()
    reader.close()
    write.mockClear()
    for (let index = 0; index < 3; index++) expect(() => settle(companion)).not.toThrow()
    expect(companion.isGone?.()).toBe(true)
    expect(write).toHaveBeenCalledTimes(1)
    expect(log.of('warn')).toEqual(["the layer's companion is gone"])
  })
})

describe('last words', () => {
  const say = (companion: Companion, ...words: string[]) => {
    lines = words
    companion.reporter?.('r1').wouldLose([], words.join())
  }

  it('are the first two lines of the file, however long they were before', () => {
    const companion = opened()
    const write = jest.spyOn(fs, 'writeSync')
    const firstTwo = () => fs.readFileSync(wordsPath(), 'utf8').split('\n').slice(0, 2)
    for (const words of [
      ['gone, of Grüße', 'late'],
      ['a', 'b'],
      ['and longer ones', 'than before'],
    ]) {
      say(companion, ...words)
      expect(firstTwo()).toEqual(words)
    }
    say(companion)
    expect(firstTwo()).toEqual(['', ''])
    const writes = write.mock.calls.length
    say(companion) // each invocation ends so
    expect(write).toHaveBeenCalledTimes(writes)
    expect(log.lines).toEqual([])
  })

  it('are for the eyes of this user alone', () => {
    say(opened(), 'secret', 'secret')
    expect(fs.statSync(wordsPath()).mode & 0o777).toBe(0o600)
  })

  it('make no file where there is nothing to say', () => {
    say(opened())
    expect(fs.existsSync(wordsPath())).toBe(false)
  })

  it('write nothing through a link that is put there', () => {
    const target = join(folder, 'precious')
    fs.writeFileSync(target, 'precious')
    const companion = opened()
    fs.symlinkSync(target, wordsPath())
    say(companion, 'words', 'words')
    expect(fs.readFileSync(target, 'utf8')).toBe('precious')
    expect(log.of('warn')).toEqual([expect.stringContaining('ELOOP')])
  })

  it.each<[string, () => unknown, string]>([
    ['a folder stands there', () => fs.mkdirSync(wordsPath()), 'EISDIR'],
    ['a pipe stands there', () => childProcess.execFileSync('mkfifo', [wordsPath()]), 'is of another kind or user'],
    ['the folder is gone', () => fs.rmSync(folder, { recursive: true }), 'ENOENT'],
  ])('fail once, and are not tried again: %s', (_, prepare, reason) => {
    const companion = opened()
    prepare()
    const open = jest.spyOn(fs, 'openSync')
    for (let time = 0; time < 3; time++) expect(() => say(companion, `words ${time}`, 'late')).not.toThrow()
    expect(open).toHaveBeenCalledTimes(1)
    expect(log.of('warn')).toEqual([expect.stringContaining(reason)])
    expect(log.codes).toEqual(['WARN_LAST_WORDS'])
  })

  const itAsRoot = isRoot ? it : it.skip
  itAsRoot("leave another user's file alone", () => {
    const companion = opened()
    fs.writeFileSync(wordsPath(), 'theirs')
    fs.chownSync(wordsPath(), STRANGER, STRANGER)
    say(companion, 'words', 'words')
    expect(fs.readFileSync(wordsPath(), 'utf8')).toBe('theirs')
    expect(log.codes).toEqual(['WARN_LAST_WORDS'])
  })
})

describe('an internal extension', () => {
  it.each([
    ['with a line unread is noticed as well', true],
    ['is noticed without a write, once', false],
  ])('that is killed %s', async (_, isStopped) => {
    await using api = { ...(await startApiThread(200)), [Symbol.asyncDispose]: () => api.close() }
    const { spawn } = childProcess
    let child: ChildProcess | undefined
    jest.spyOn(childProcess, 'spawn').mockImplementation(((...given: Parameters<typeof spawn>) => {
      child = spawn(...given)
      return child
    }) as any)
    const socket = startScript('"INVOKE"', api.address)
    if (isStopped) child?.kill('SIGSTOP')
    const companion = tell(socket._handle.fd, socket)
    const write = jest.spyOn(fs, 'writeSync')
    child?.kill('SIGKILL')
    await until(() => companion.isGone?.() === true)
    expect(write).not.toHaveBeenCalled() // its descriptor may be another file's by now
    companion.reporter?.('r1').hold(0)
    expect(write).not.toHaveBeenCalled()
    expect(log.of('warn')).toEqual([expect.stringContaining('the internal extension is gone')])
  })
})
