// What each file of tests of the companion script begins with.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach } from '@jest/globals'
import { type Companion, type StartOptions, startCompanion } from './companion-script.ts'

/** How long one test of the script may take. */
export const TEST_MS = 30_000

/** For a file of tests: each has a folder of its own, and what it starts ends with it. */
export const useCompanions = () => {
  const tests = {
    cleanUp: new AsyncDisposableStack(),
    folder: '',
    start: (options?: StartOptions): Promise<Companion> => startCompanion(tests.cleanUp, options),
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
