// A streamed answer, and a task that leaves an interval behind. The client of nodejs22.x asks for the next invocation only
// when the event loop is empty, unless it is told not to wait for that.
import { describe, expect, it } from '@jest/globals'
import { realClient } from '../support/require-runtime-clients.ts'
import { startRun } from '../support/run.ts'

const TEST_MS = 30_000

const combinations = [
  { client: realClient('ric3'), companion: 'internal' as const },
  { client: realClient('ric3'), companion: 'layer' as const },
  { client: realClient('ric4'), companion: 'gate' as const },
  { client: realClient('ric4'), companion: 'layer' as const },
]

describe.each(combinations)('$client.name, $companion', ({ client, companion }) => {
  const start = (handler: string, timeout: number) =>
    startRun({ client, companion, handler: `streaming-leftovers.${handler}`, freeze: true, timeout })

  it(
    'does no harm where the client does not wait for an empty event loop',
    async () => {
      const run = await start('handler', 120_000)
      await using sandbox = run.sandbox
      for (let invocation = 1; invocation <= 3; invocation++) {
        const report = await run.invoke({ doesNotWait: true })
        expect(report).toMatchObject({ payload: 'streamed', streamed: true, status: 'success', timedOut: false })
        expect(run.marks()).toHaveLength(invocation)
        expect(run.marks().at(-1)?.t).toBeGreaterThan(run.time('response', report.requestId))
        expect(run.marks().at(-1)?.t).toBeLessThan(run.time('released', report.requestId))
      }
      expect(sandbox.events.filter(({ type }) => type === 'reset' || type === 'timeout')).toEqual([])
    },
    TEST_MS,
  )

  it.each(['handler', 'bare'])(
    'lasts until the timeout with the client of nodejs22.x, which waits unless it is told not to: %s',
    async handler => {
      const waits = client.kind === 'ric3'
      const run = await start(handler, waits ? 1_500 : 120_000)
      await using _sandbox = run.sandbox
      expect(await run.invoke({})).toMatchObject({
        ...{ payload: 'streamed', timedOut: waits, status: waits ? 'timeout' : 'success' },
      })
    },
    TEST_MS,
  )
})
