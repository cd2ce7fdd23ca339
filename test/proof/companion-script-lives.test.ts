// The companion script in hundreds of lives: invocations in any order of events, with faults in every byte. What a life is,
// and what has to hold in it, is in support/companion-lives.ts. In the nightly workflow there are thousands, other ones each
// time.
//
// A failure tells its seed and its path. To live that life once more:
//   POST_INVOKE_TEST_SEED=3 POST_INVOKE_TEST_PATH=17:0:2 npm run jest -- test/proof/companion-script-lives.test.ts
import { expect, it } from '@jest/globals'
import fc from 'fast-check'
import { type Counts, live, lives } from '../support/companion-lives.ts'
import { randomRuns } from '../support/random-runs.ts'

/** So many at a time: what takes long is mostly waiting. */
const SIDE_BY_SIDE = 16

it('holds, lets go and tells what is lost, whatever comes in whatever order', async () => {
  const { seed, runs, path, limit } = randomRuns({ seed: 1, runs: 384 })
  const sums: Counts = { invocations: 0, requests: 0, moves: 0 }
  const start = performance.now()
  let count = 0
  const property = fc.asyncProperty(lives, async life => {
    const counts = await live(life)
    count++
    for (const key of Object.keys(sums) as (keyof Counts)[]) sums[key] += counts[key]
  })
  const chains = path === undefined ? SIDE_BY_SIDE : 1
  await Promise.all(
    Array.from({ length: chains }, (_, index) =>
      fc.assert(property, {
        seed: seed + index,
        numRuns: Math.ceil(runs / chains),
        ...(path !== undefined && { path }),
        interruptAfterTimeLimit: limit,
      }),
    ),
  )
  console.info(`${count} lives in ${Math.round(performance.now() - start)} ms: ${JSON.stringify(sums)}`)
  expect(count).toBeGreaterThan(0)
}, 3_600_000)
