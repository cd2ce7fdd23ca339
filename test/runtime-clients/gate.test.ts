import { describe, expect, it } from '@jest/globals'
import { realClient } from '../support/require-runtime-clients.ts'
import { type Run, startRun } from '../support/run.ts'

const ric3 = realClient('ric3')
const ric4 = realClient('ric4')

/** Held for three tasks in a row, by whatever holds. */
const expectHeld = async (run: Run) => {
  for (let count = 0; count < 3; count++) {
    const report = await run.invoke({ tasks: [{ kind: 'sleep', ms: 50, name: 'task' }] })
    expect(report).toMatchObject({ status: 'success', timedOut: false })
    const ends = run.marks(report.requestId).filter(({ what }) => what === 'end')
    expect(ends).toHaveLength(1)
    expect(ends[0]?.t).toBeGreaterThan(run.time('response', report.requestId))
    expect(ends[0]?.t).toBeLessThan(run.time('released', report.requestId))
  }
}

const registered = (run: Run) =>
  run.sandbox.events.flatMap(event => (event.type === 'extension-registered' ? [event.kind] : []))

describe.each(['0.1.1', '0.3.0'])('aws-lambda-ric 3 with @aws/lambda-invoke-store %s loaded first', store => {
  const handler = `store-${store.replaceAll('.', '-')}-first.handler`

  it('is not taken for a client with a gate', async () => {
    const run = await startRun({ client: ric3, companion: 'gate', handler })
    await using _sandbox = run.sandbox
    await expectHeld(run)
    expect(registered(run)).toEqual(['internal'])
    expect(run.logged('WARN')).toEqual([])
  })

  it('is not even when its image says nodejs24.x', async () => {
    const run = await startRun({
      client: ric3,
      companion: 'gate',
      handler,
      executionEnvironment: 'AWS_Lambda_nodejs24.x',
    })
    await using _sandbox = run.sandbox
    await expectHeld(run)
    expect(registered(run)).toEqual(['internal'])
    expect(run.logged('WARN')).toEqual([])
  })
})

describe.each(['0.1.1', '0.3.0'])('aws-lambda-ric 4 with @aws/lambda-invoke-store %s loaded first', store => {
  it('has its gate all the same', async () => {
    const run = await startRun({
      client: ric4,
      companion: 'gate',
      handler: `store-${store.replaceAll('.', '-')}-first.handler`,
    })
    await using _sandbox = run.sandbox
    await expectHeld(run)
    expect(registered(run)).toEqual([])
    expect(run.logged('WARN')).toEqual([])
  })
})

describe('aws-lambda-ric 4 with its global switched off', () => {
  it('switches to the internal extension', async () => {
    const run = await startRun({
      client: ric4,
      companion: 'gate',
      environment: { AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA: '1' },
    })
    await using _sandbox = run.sandbox
    await expectHeld(run)
    expect(registered(run)).toEqual(['internal'])
    expect(run.logged('WARN')).toEqual([])
  })
})
