import { join } from 'node:path'
import { describe, expect, it } from '@jest/globals'
import { eventually, fixtures, startRun } from '../support/run.ts'
import { builtInClient, type RuntimeClient } from '../support/runtime-clients.ts'

describe('a gate that does not hold', () => {
  const client: RuntimeClient = {
    name: 'a client that does not wait',
    kind: 'built-in',
    options: handler => ({
      handler,
      runtimeClient: [process.execPath, join(fixtures, 'client-that-does-not-wait.mjs')],
    }),
  }

  it('is noticed, warned of once, and loses no task', async () => {
    const run = await startRun({ client, companion: 'gate' })
    await using _sandbox = run.sandbox
    const task = (name: string) => ({ tasks: [{ kind: 'sleep', ms: 200, name }] })
    const first = await run.invoke(task('first'))
    const second = await run.invoke(task('second'))
    const third = await run.invoke(task('third'))

    // The first was let go while its task ran; it goes on in the same process.
    await eventually(() => run.marks(first.requestId).some(({ what }) => what === 'end'), 'the first task has ended')
    // From then on the answer waits.
    for (const report of [second, third]) {
      const [start, end] = run.marks(report.requestId).filter(({ what }) => what === 'start' || what === 'end')
      expect(start?.what).toBe('start')
      expect(end?.t).toBeLessThan(run.time('response', report.requestId))
    }
    expect(run.logged('does not wait for InvokeStore.run')).toHaveLength(1)
    expect(run.logged('InvokeStore.run')).toHaveLength(1)
  })
})

describe('AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA', () => {
  it('switches to the internal extension', async () => {
    const run = await startRun({
      client: builtInClient,
      companion: 'gate',
      environment: { AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA: '1' },
    })
    await using _sandbox = run.sandbox
    for (let count = 0; count < 3; count++) {
      // Such a client does not wait until its answer has been read, and a busy machine may read it late.
      const report = await run.invoke({ tasks: [{ kind: 'sleep', ms: 1_000, name: 'task' }] })
      const ends = run.marks(report.requestId).filter(({ what }) => what === 'end')
      expect(ends).toHaveLength(1)
      expect(ends[0]?.t).toBeGreaterThan(run.time('response', report.requestId))
      expect(ends[0]?.t).toBeLessThan(run.time('released', report.requestId))
    }
    expect(run.logged('WARN')).toEqual([])
  })
})

describe('a first use before the runtime client has loaded', () => {
  it('is warned of, as soon as an invocation comes', async () => {
    const run = await startRun({
      client: builtInClient,
      companion: 'gate',
      environment: { NODE_OPTIONS: `--import=${join(fixtures, 'first-used-early.mjs')}` },
    })
    await using _sandbox = run.sandbox
    for (let count = 0; count < 2; count++) await run.invoke({})
    expect(run.logged('WARN_NO_CLIENT')).toHaveLength(1)
  })
})
