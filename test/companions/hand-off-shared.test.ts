// A spool that several environments share, as on EFS: each with process numbers of its own, which mean nothing to the others.
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it } from '@jest/globals'
import { createSpoolWriter } from '../../src/hand-off/spool.ts'
import { eventually } from '../support/run.ts'

const runner = fileURLToPath(new URL('../../dist/layer/post-invoke/runner.cjs', import.meta.url))

/** As root inside, and in a world of processes of its own. */
const UNSHARE = ['--user', '--map-root-user', '--pid', '--fork', '--kill-child']
const canUnshare = spawnSync('unshare', [...UNSHARE, 'true']).status === 0

const source = `
const { createRunner } = require(${JSON.stringify(runner)})
const [spool, jobsModule] = process.argv.slice(2)
const say = (...given) => console.log(...given)
const log = { debug: say, warn: say, error: say, warnOnce: say }
const runner = createRunner({ spool, jobsModule, log, isolatesJobs: true, overflowQueueUrl: undefined, budget: 60_000 })
console.log('PID ' + process.pid)
const again = () => runner.run(Date.now() + 60_000).then(() => setTimeout(again, 20))
again()
`

const test = canUnshare ? it : it.skip
test('gives each piece to one of them', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'post-invoke-shared-'))
  const spool = join(folder, 'spool')
  const began = join(folder, 'began')
  const jobsModule = join(folder, 'jobs.mjs')
  writeFileSync(join(folder, 'run.cjs'), source)
  writeFileSync(
    jobsModule,
    `import { appendFileSync } from 'node:fs'
     export const slow = async name => {
       appendFileSync(${JSON.stringify(began)}, name + '\\n')
       await new Promise(resolve => setTimeout(resolve, 900))
     }`,
  )
  writeFileSync(began, '')
  const environments = Array.from({ length: 3 }, () => {
    const child = spawn('unshare', [...UNSHARE, process.execPath, join(folder, 'run.cjs'), spool, jobsModule])
    let output = ''
    child.stdout.on('data', chunk => {
      output += chunk
    })
    return { child, output: () => output }
  })
  try {
    await eventually(() => environments.every(({ output }) => output().includes('PID 1\n')), 'all have begun')
    const add = createSpoolWriter(spool)
    for (const name of ['a', 'b', 'c']) {
      const work = { kind: 'job', job: 'slow', payload: name }
      add(JSON.stringify({ version: 1, key: name, id: name, requestId: 'r', name, work }), '00000000')
    }
    await eventually(() => readdirSync(spool).length === 0, 'all are done')
    expect(readFileSync(began, 'utf8').trim().split('\n').sort()).toEqual(['a', 'b', 'c'])
  } finally {
    for (const { child } of environments) child.kill('SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  }
})
