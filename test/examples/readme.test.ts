// The samples of the documentation are not only compiled: each is loaded, and the handlers among them run.
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from '@jest/globals'
import { root, run } from '../package/packed.ts'
import { startRun } from '../support/run.ts'
import { builtInClient } from '../support/runtime-clients.ts'

const folder = join(root, 'examples', 'readme')
const samples = readdirSync(folder).filter(name => name.endsWith('.ts'))

/** One needs a project of the reader's own. Middy's streams need Lambda's globals; that one runs below. */
const notAlone = ['sandbox.ts', 'streaming.ts']

describe('examples/readme', () => {
  it.each(samples.filter(name => !notAlone.includes(name)))('%s can be loaded', async name => {
    expect(await run(process.execPath, [join(folder, name)], { cwd: root })).toMatchObject({ code: 0 })
  })

  it.each([
    ['try.ts', 201],
    ['typescript.ts', 201],
  ])('%s answers', async (name, statusCode) => {
    const { report } = await invoke(name)
    expect(report.body().statusCode).toBe(statusCode)
  })

  it('streaming.ts streams', async () => {
    const { report } = await invoke('streaming.ts')
    expect(report).toMatchObject({ streamed: true, payload: expect.stringMatching(/one\ntwo\nthree\n$/) })
  })
})

const invoke = async (name: string) => {
  const started = await startRun({
    client: builtInClient,
    taskRoot: folder,
    handler: name.replace('.ts', '.handler'),
    timeout: 30_000,
  })
  await using sandbox = started.sandbox
  const report = await sandbox.invoke({ body: 'tea' })
  expect(report).toMatchObject({ kind: 'response', status: 'success' })
  expect(started.logged('')).toEqual([])
  return { report }
}
