// What runs beside the function: one bash. Node.js only once there is work for it.
import { describe, expect, it } from '@jest/globals'
import { startHandOff } from '../support/hand-off-suite.ts'
import { childrenOf, descendantsOf, programOf } from '../support/processes.ts'
import { realClient } from '../support/require-runtime-clients.ts'
import { type Run, startRun } from '../support/run.ts'

const task = { tasks: [{ kind: 'sleep', ms: 20, name: 'task' }] }

/** The programs of the layer's process and of all that it has started. */
const programsOfLayer = ({ sandbox }: Run): string[] =>
  Object.values(sandbox.extensionPids).flatMap(pid => [pid, ...descendantsOf(pid)].map(programOf))

describe.each(['ric3', 'ric4'] as const)('the processes beside the function: %s', kind => {
  const client = realClient(kind)

  it('the layer, with nothing handed off: one bash, and no Node.js', async () => {
    const run = await startRun({ client, companion: 'layer' })
    await using _sandbox = run.sandbox
    expect(programsOfLayer(run)).toEqual(['bash'])
    for (let count = 0; count < 3; count++) {
      expect(await run.invoke(task)).toMatchObject({ status: 'success' })
      expect(programsOfLayer(run)).toEqual(['bash'])
    }
    expect(childrenOf(run.sandbox.runtimePid as number)).toEqual([])
  })

  it('the layer of a function that hands work off: Node.js beside it with the first work, and one for all', async () => {
    await using run = await startHandOff({ client, companion: 'layer' })
    await run.invoke({})
    expect(programsOfLayer(run)).toEqual(['bash'])
    for (let count = 0; count < 3; count++) {
      const report = await run.invoke({ work: [['note']] })
      expect(run.marks(report.requestId).filter(({ what }) => what === 'job')).toHaveLength(1)
      expect(programsOfLayer(run)).toEqual(['bash', 'node'])
    }
  })

  it('the internal extension: one bash, which the function has started', async () => {
    const run = await startRun({ client, companion: 'internal' })
    await using _sandbox = run.sandbox
    for (let count = 0; count < 3; count++) {
      expect(await run.invoke(task)).toMatchObject({ status: 'success' })
      expect(descendantsOf(run.sandbox.runtimePid as number).map(programOf)).toEqual(['bash'])
    }
  })
})
