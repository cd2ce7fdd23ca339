// The function's process is killed in the middle of a task, again and again: its companion, which outlives it, names the
// task each time. POST_INVOKE_TEST_DEATHS says how often, with each client and companion.
import { afterAll, describe, expect, it } from '@jest/globals'
import { deaths, realClient } from '../support/require-runtime-clients.ts'
import { eventually, startRun } from '../support/run.ts'

/** In the tick in which the task is called, a little later, by somebody else, and with another task that waits. */
const WAYS = [
  [{ kind: 'is-killed', name: 'lost' }],
  [{ kind: 'is-killed-later', name: 'lost', ms: 3 }],
  [{ kind: 'never', name: 'lost' }],
  [
    { kind: 'quick', name: 'never started' },
    { kind: 'is-killed-later', name: 'lost', ms: 30 },
  ],
]

const said: string[] = []
afterAll(() => void process.stdout.write(`${said.join('\n')}\n`))

describe.each(['ric3', 'ric4'] as const)('a process killed in the middle of a task: %s', kind => {
  it.each(['layer', 'internal'] as const)(
    `%s: its task is named, ${deaths} of ${deaths} times`,
    async companion => {
      const client = realClient(kind)
      const run = await startRun({ client, companion, freeze: true })
      await using _sandbox = run.sandbox
      const requestIds: string[] = []
      for (let count = 0; count < deaths; count++) {
        if (count % 2 === 1) await run.invoke({}) // in the environment's second invocation
        const tasks = WAYS[count % WAYS.length]
        const sent = run.sandbox.send({ tasks })
        requestIds.push(sent.requestId)
        if (tasks?.[0]?.kind === 'never') {
          await eventually(() => run.marks(sent.requestId).some(({ what }) => what === 'start'), 'the task runs')
          process.kill(run.sandbox.runtimePid as number, 'SIGKILL')
        }
        expect(await sent.released).toMatchObject({ kind: 'response', timedOut: false })
      }
      const named = () => requestIds.filter(id => isNamed(id))
      const isNamed = (id: string) =>
        run.logged("the function's process ended in the middle of request", id, '"lost"').length === 1
      await eventually(() => named().length === deaths, 'each lost task is named').catch(() => {})
      said.push(`${client.name}, ${companion}: named ${named().length} of ${deaths} times`)
      expect(requestIds.filter(id => !isNamed(id))).toEqual([])
    },
    60_000 + deaths * 5_000,
  )

  it.each(['layer', 'internal'] as const)('%s: with its tenant', async companion => {
    const environment = { AWS_LAMBDA_LOG_FORMAT: 'JSON' }
    const run = await startRun({ client: realClient(kind), companion, handler: 'tenant.handler', environment })
    await using _sandbox = run.sandbox
    const { requestId } = await run.invoke({ tenantId: 'blue' })
    const lines = () => run.logged("the function's process ended in the middle of request")
    await eventually(() => lines().length > 0, 'the lost task is named')
    expect(lines().map(line => JSON.parse(line))).toMatchObject([{ requestId, tenantId: 'blue', tasks: ['lost'] }])
  })
})
