// The function's process is killed 60 times, in its first invocation and in later ones, in the tick in which it hands off,
// in that in which its response is posted, and right after it. Each time a request and a job must get through.
import { afterAll, describe, expect, it } from '@jest/globals'
import { startHandOff, waiting } from '../support/hand-off-suite.ts'
import { handOffDeaths, realClient } from '../support/require-runtime-clients.ts'

const WAYS = ['same tick', 'with the response', 'after']

const said: string[] = []
afterAll(() => void process.stdout.write(`${said.join('\n')}\n`))

describe.each(['ric3', 'ric4'] as const)('a killed process: %s', kind => {
  it.each([false, true])(
    `loses nothing that it has handed off, ${handOffDeaths} times in all (in a later invocation: %s)`,
    async isLater => {
      await using run = await startHandOff({ client: realClient(kind), companion: 'layer', freeze: true })
      const deaths = Math.ceil(handOffDeaths / 2)
      const ids: string[] = []
      for (let count = 0; count < deaths; count++) {
        if (isLater) await run.invoke({})
        const dies = WAYS[count % WAYS.length]
        const report = await run.invoke({ dies, work: [[{ url: run.target.url, body: 'x' }], ['note']] })
        expect(report).toMatchObject({ status: 'crash', kind: dies === 'same tick' ? 'error' : 'response' })
        ids.push(report.requestId)
      }
      await run.sandbox.shutdown()

      const requests = run.target.keys()
      const jobs = new Map<string, number>()
      for (const { what, name = '' } of run.marks()) if (what === 'job') jobs.set(name, (jobs.get(name) ?? 0) + 1)
      const lost = ids.filter(id => !requests.has(`${id}-1`) || !jobs.has(`${id}-2`))
      const twice = (counts: Map<string, number>) => [...counts.values()].filter(count => count > 1).length
      said.push(
        `${kind}, killed in ${isLater ? 'later invocations' : 'the first invocation'}: ${requests.size} of ${deaths} requests (${twice(requests)} more than once), ${jobs.size} of ${deaths} jobs (${twice(jobs)} more than once)`,
      )
      expect({ lost, requests: requests.size, jobs: jobs.size, waiting: waiting(run) }).toEqual({
        lost: [],
        requests: deaths,
        jobs: deaths,
        waiting: [],
      })
    },
    300_000,
  )
})
