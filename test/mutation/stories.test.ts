// A few of the stories of test/proof/interleavings.test.ts, for each mutant.
import { expect, it } from '@jest/globals'
import fc from 'fast-check'
import { bundleCore } from '../support/core-bundle.ts'
import { explore } from '../support/random-stories.ts'

it('stories at random hold', async () => {
  const { details } = await explore(await bundleCore(), { seed: 1, runs: 250, path: undefined, limit: 60_000 })
  if (details.failed) throw new Error(fc.defaultReportMessage(details))
  expect(details.numRuns).toBe(250)
})
