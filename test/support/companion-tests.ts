// What each file of tests of the companion script begins with.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach } from '@jest/globals'
import { type Companion, type StartOptions, startCompanion } from './companion-script.ts'

/** How long one test of the script may take. */
export const TEST_MS = 30_000

export type Start = (options?: StartOptions) => Promise<Companion>

/**
 * The body of a test that runs beside others of its file, for `it.concurrent`: most of what the script does is to wait.
 * What it starts ends with it.
 */
export const beside =
  <Given extends unknown[]>(
    body: (tools: { start: Start; cleanUp: AsyncDisposableStack }, ...given: Given) => Promise<void>,
  ) =>
  async (...given: Given) => {
    await using cleanUp = new AsyncDisposableStack()
    await body({ cleanUp, start: options => startCompanion(cleanUp, options) }, ...given)
  }

/** For a file of tests that run one after the other: each has a folder of its own, and what it starts ends with it. */
export const useCompanions = () => {
  const tests: { cleanUp: AsyncDisposableStack; folder: string; start: Start } = {
    cleanUp: new AsyncDisposableStack(),
    folder: '',
    start: options => startCompanion(tests.cleanUp, options),
  }
  beforeEach(() => {
    tests.folder = mkdtempSync(join(tmpdir(), 'post-invoke-'))
  })
  afterEach(async () => {
    await tests.cleanUp.disposeAsync()
    tests.cleanUp = new AsyncDisposableStack()
    rmSync(tests.folder, { recursive: true, force: true })
  })
  return tests
}
