// The layer: what is unpacked into /opt.
import { readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from '@jest/globals'
import { unzipSync } from 'fflate'
import { copyOf, makeFolder, root, succeed } from './packed.ts'

const layer = join(root, 'dist', 'layer')
const zip = readFileSync(join(root, 'dist', 'layer.zip'))

type Entry = { name: string; system: number; mode: number; time: number; date: number }

/** The central directory of a ZIP: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3.12 and 4.3.16. */
const readCentralDirectory = (bytes: Buffer): Entry[] => {
  const end = bytes.lastIndexOf(Buffer.from('PK\x05\x06', 'latin1'))
  const count = bytes.readUInt16LE(end + 10)
  let at = bytes.readUInt32LE(end + 16)
  return Array.from({ length: count }, () => {
    expect(bytes.toString('latin1', at, at + 4)).toBe('PK\x01\x02')
    const [name, extra, comment] = [28, 30, 32].map(offset => bytes.readUInt16LE(at + offset)) as [
      number,
      number,
      number,
    ]
    const entry = {
      name: bytes.toString('utf8', at + 46, at + 46 + name),
      system: bytes.readUInt8(at + 5),
      mode: bytes.readUInt32LE(at + 38) >>> 16,
      time: bytes.readUInt16LE(at + 12),
      date: bytes.readUInt16LE(at + 14),
    }
    at += 46 + name + extra + comment
    return entry
  })
}

describe('dist/layer', () => {
  it('has one file in extensions/, because Lambda starts every file there', () => {
    expect(readdirSync(join(layer, 'extensions'))).toEqual(['post-invoke'])
    expect(statSync(join(layer, 'extensions', 'post-invoke')).mode & 0o777).toBe(0o755)
  })

  it('has the companion script as it is in src', () => {
    const text = readFileSync(join(layer, 'extensions', 'post-invoke'), 'utf8')
    expect(text).toBe(readFileSync(join(root, 'src', 'extension', 'post-invoke.sh'), 'utf8'))
    expect(text.split('\n')[0]).toBe('#!/bin/bash -p')
  })

  it('has the worker where the companion looks for it, and files that Node can parse', async () => {
    const files = readdirSync(join(layer, 'post-invoke'))
    expect(files.sort()).toEqual(['command.cjs', 'runner.cjs', 'worker.cjs'])
    for (const file of files) await succeed(process.execPath, ['--check', join(layer, 'post-invoke', file)])
  })

  it('has a runner that calls many jobs in one thread, without a word', async () => {
    using made = makeFolder()
    const folder = made.path
    const script = join(folder, 'run.cjs')
    writeFileSync(
      join(folder, 'jobs.mjs'),
      "import { writeSync } from 'node:fs'; let calls = 0; export const job = () => { writeSync(1, String(++calls).concat(`\\n`)) }",
    )
    writeFileSync(
      script,
      `const { mkdirSync, writeFileSync } = require('node:fs')
      const { createRunner } = require(${JSON.stringify(join(layer, 'post-invoke', 'runner.cjs'))})
      const log = { debug() {}, warn: console.warn, error: console.error }
      const spool = __dirname + '/spool'
      mkdirSync(spool, { mode: 0o700 })
      const runner = createRunner({ spool, log, isolatesJobs: true, jobsModule: __dirname + '/jobs.mjs' })
      const work = { kind: 'job', job: 'job' }
      const entry = { version: 1, key: 'k', id: 'i', requestId: 'r', name: 'n', work }
      process.on('warning', ({ name }) => console.log(name))
      const main = async () => {
        for (let index = 0; index < 12; index++) {
          const name = Date.now() + '-' + Date.now() + '-00-00-' + index + '-00000000.json'
          writeFileSync(spool + '/' + name, JSON.stringify(entry), { mode: 0o600 })
          await runner.run(Date.now() + 10_000)
        }
      }
      void main()`,
    )
    const stdout = await succeed(process.execPath, [script])
    expect(stdout.trim().split('\n')).toEqual(Array.from({ length: 12 }, (_, index) => String(index + 1)))
  })

  it('has an HTTP client in the file that is loaded with the first work that is handed off, and in no other', () => {
    const has = (file: string) => readFileSync(join(layer, 'post-invoke', file), 'utf8').includes('UND_ERR_SOCKET')
    expect(['command.cjs', 'worker.cjs', 'runner.cjs'].map(has)).toEqual([false, false, true])
  })
})

describe('dist/layer.zip', () => {
  it('contains the files of dist/layer with their modes, and nothing else', () => {
    const entries = readCentralDirectory(zip)
    const unix = 3
    expect(entries.map(({ name, system, mode }) => [name, system, mode.toString(8)])).toEqual([
      ['extensions/', unix, '40755'],
      ['extensions/post-invoke', unix, '100755'],
      ['post-invoke/', unix, '40755'],
      ['post-invoke/command.cjs', unix, '100644'],
      ['post-invoke/runner.cjs', unix, '100644'],
      ['post-invoke/worker.cjs', unix, '100644'],
    ])
    for (const [name, bytes] of Object.entries(unzipSync(zip))) {
      if (!name.endsWith('/')) expect(Buffer.from(bytes).equals(readFileSync(join(layer, name)))).toBe(true)
    }
  })

  it('is not large: it is unpacked in each cold start', () => {
    expect(zip.length).toBeLessThan(400_000)
  })

  it('says of each entry that it is from 1980-01-01 00:00', () => {
    for (const { time, date } of readCentralDirectory(zip)) expect([time, date]).toEqual([0, (1 << 5) | 1])
  })

  it('is the same byte for byte, whenever and wherever it is built', async () => {
    using folder = makeFolder()
    copyOf(folder.path, ['package.json', 'scripts', 'src/extension/post-invoke.sh', 'dist/layer'])
    const build = async (environment: NodeJS.ProcessEnv) => {
      const env = { ...process.env, ...environment }
      await succeed('sh', ['-c', `umask ${environment.MASK}; exec "$NODE" scripts/build-layer.js`], {
        cwd: folder.path,
        env,
      })
      return readFileSync(join(folder.path, 'dist', 'layer.zip'))
    }
    const first = await build({ NODE: process.execPath, MASK: '022', TZ: 'Asia/Tokyo' })
    const worker = join(folder.path, 'dist', 'layer', 'post-invoke', 'worker.cjs')
    utimesSync(worker, new Date(0), new Date(0))
    const second = await build({ NODE: process.execPath, MASK: '077', TZ: 'America/Los_Angeles' })
    expect(first.equals(second)).toBe(true)
    expect(first.equals(zip)).toBe(true)
    writeFileSync(worker, `${readFileSync(worker, 'utf8')}//`)
    expect((await build({ NODE: process.execPath, MASK: '022' })).equals(first)).toBe(false)
  })
})
