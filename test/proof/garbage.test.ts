// What an invocation leaves behind: nothing that a minor collection does not free. V8 puts some objects into its old
// generation at once, and whatever hangs off one of them lives on until the whole heap is collected: that is rare, takes
// long, and lets the process grow meanwhile.
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { build } from 'esbuild'
import { eventually } from '../support/run.ts'

const fixture = fileURLToPath(new URL('../fixtures/garbage/index.mjs', import.meta.url))

/** Of the old generation, for each invocation. One that is kept whole has six times as much. */
const MAX_BYTES = 1_000

// Minifiers move functions to where they are used once.
describe.each([[false], [true]])('minified: %s', minify => {
  let folder: string

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'post-invoke-garbage-'))
    await build({
      entryPoints: [fixture],
      outfile: join(folder, 'index.mjs'),
      bundle: true,
      minify,
      platform: 'node',
      format: 'esm',
      target: 'node22',
    })
  })

  afterAll(() => rmSync(folder, { recursive: true }))

  it.each([
    'a task',
    'a task with a timeout, and its signal',
    'a task that fails, and onTaskError',
    'a promise',
    'a handler that could hand off',
    'without Middy',
    'a framework',
  ])('%s', async name => {
    const { bytes, collections } = await measure(join(folder, 'index.mjs'), name)
    expect(collections).toBe(0)
    expect(bytes).toBeLessThan(MAX_BYTES)
  })
})

/** The process ends itself by SIGKILL, as the package has it do where no client takes another invocation. */
const measure = async (file: string, name: string): Promise<{ bytes: number; collections: number }> => {
  let output = ''
  const child = execFile(process.execPath, [file, name])
  child.stdout?.on('data', data => {
    output += data
  })
  let hasEnded = false
  child.on('close', () => {
    hasEnded = true
  })
  await eventually(() => hasEnded, 'the process has ended')
  return JSON.parse(output)
}
