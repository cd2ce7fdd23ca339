// examples/observability, with the real libraries: bundled, in environments that are frozen between invocations, with every
// companion. What is to be seen has to be there before the environment is let go.
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { type Bundle, bundle } from '../support/bundle.ts'
import { realClient } from '../support/require-runtime-clients.ts'
import { type CompanionName, eventually, type Run, startRun } from '../support/run.ts'
import { builtInClient, type RuntimeClient } from '../support/runtime-clients.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

const setups: [string, RuntimeClient, CompanionName][] = [
  ...(['layer', 'internal', 'gate'] as const).map(companion => [builtInClient, companion] as const),
  [realClient('ric3'), 'layer'] as const,
  [realClient('ric3'), 'internal'] as const,
  [realClient('ric4'), 'layer'] as const,
  [realClient('ric4'), 'gate'] as const,
].map(([client, companion]) => [`${client.name}, ${companion}`, client, companion])

/** Describes an example with each of them. */
const describeExample = (
  entry: string,
  tests: (start: (environment?: Record<string, string>) => Promise<Run>) => void,
) => {
  describe(entry, () => {
    let bundled: Bundle & Disposable
    beforeAll(async () => {
      bundled = await bundle(join(root, entry), { tool: 'esbuild', format: 'cjs', minify: false })
    })
    afterAll(() => bundled[Symbol.dispose]())
    describe.each(setups)('%s', (_, client, companion) => {
      tests(environment =>
        startRun({ client, companion, taskRoot: bundled.folder, freeze: true, ...(environment && { environment }) }),
      )
    })
  })
}

/** The lines of an invocation that have a text, as JSON: each was written after the response had left, and before the environment was let go. */
const linesAfterResponse = async (run: Run, order: unknown, text: string) => {
  const before = run.sandbox.logs.length
  const report = await run.invoke(order)
  expect(report).toMatchObject({ status: 'success', kind: 'response' })
  const lines = () => run.sandbox.logs.slice(before).filter(line => line.text.includes(text))
  await eventually(() => lines().length > 0, `a line with ${text}`)
  const { requestId } = report
  const response = run.sandbox.events.find(event => event.type === 'response' && event.requestId === requestId)
  for (const { at } of lines()) expect(at).toBeGreaterThan(response?.at ?? Number.NaN)
  return { requestId, lines: lines().map(line => JSON.parse(line.text)) }
}

describeExample('examples/observability/metrics.ts', start => {
  it('writes what holding has cost', async () => {
    const run = await start()
    await using _sandbox = run.sandbox
    for (const id of ['o1', 'o2']) {
      const { requestId, lines } = await linesAfterResponse(run, { id, mail: 'ann@example.org' }, 'HoldDuration')
      expect(lines).toMatchObject([{ service: 'orders', stage: 'production', TasksRun: 1, TasksFailed: 0, requestId }])
    }
  })
})

describeExample('examples/observability/powertools-logger.ts', start => {
  it('has the package’s line written by the Logger, with its own keys', async () => {
    const run = await start()
    await using _sandbox = run.sandbox
    const { requestId, lines } = await linesAfterResponse(run, { id: 'o1' }, 'middy-post-invoke: ')
    expect(lines).toMatchObject([
      {
        level: 'ERROR',
        message: `middy-post-invoke: task "mail" of request ${requestId} failed:`,
        service: 'orders',
        timestamp: expect.any(String),
        task: 'mail',
        requestId,
        error: { name: 'Error', message: 'no address', stack: expect.any(String) },
      },
    ])
  })
})

describeExample('examples/observability/powertools-metrics.ts', start => {
  it('publishes what handler and tasks have added after the response, once a request', async () => {
    const run = await start()
    await using _sandbox = run.sandbox
    for (const id of ['o1', 'o2']) {
      const { lines } = await linesAfterResponse(run, { id, mail: 'ann@example.org' }, 'CloudWatchMetrics')
      expect(lines).toMatchObject([
        { OrdersPlaced: 1, MailsSent: 1, service: 'orders', _aws: { CloudWatchMetrics: [{ Namespace: 'shop' }] } },
      ])
    }
  })
})

describeExample('test/fixtures/observability/powertools-metrics-otherwise.ts', start => {
  it('has what a task adds come with the next invocation', async () => {
    const run = await start()
    await using _sandbox = run.sandbox
    const published = () =>
      run.sandbox.logs.filter(({ text }) => text.includes('CloudWatchMetrics')).map(({ text }) => JSON.parse(text))
    const order = { id: 'o1', mail: 'ann@example.org' }
    expect(await run.invoke(order)).toMatchObject({ status: 'success', kind: 'response' })
    await eventually(() => published().length === 1, 'the first invocation has published')
    expect(await run.invoke(order)).toMatchObject({ status: 'success', kind: 'response' })
    await eventually(() => published().length === 2, 'the second invocation has published')
    expect(published().map(({ OrdersPlaced, MailsSent }) => [OrdersPlaced, MailsSent])).toEqual([
      [1, undefined],
      [1, 1],
    ])
  })
})

describeExample('test/fixtures/observability/opentelemetry-otherwise.ts', start => {
  it('has exported nothing when the environment is let go', async () => {
    // The processor's timer, which stands still with the environment, is not to ring on a busy machine either.
    const run = await start({ OTEL_BSP_SCHEDULE_DELAY: '600000' })
    await using _sandbox = run.sandbox
    expect(await run.invoke({ id: 'o1', mail: 'ann@example.org' })).toMatchObject({
      status: 'success',
      kind: 'response',
    })
    expect((await run.invoke({ exported: true })).body()).toEqual([])
  })
})

describeExample('test/fixtures/observability/opentelemetry.ts', start => {
  /** What had been exported when the invocation after this order began. */
  const spansOf = async (run: Run, order: unknown) => {
    expect(await run.invoke(order)).toMatchObject({ status: 'success', kind: 'response' })
    const report = await run.invoke({ exported: true })
    return report.body<any[]>()
  }

  it('exports the spans of the tasks with that of the handler, linked to it', async () => {
    const run = await start()
    await using _sandbox = run.sandbox
    const spans = await spansOf(run, { id: 'o1', mail: 'ann@example.org' })
    const [place, send, mail] = ['place order', 'send', 'mail'].map(name => spans.find(span => span.name === name))
    expect(spans.map(({ name }) => name)).toEqual(['place order', 'send', 'mail'])
    expect(mail).toMatchObject({
      links: [{ traceId: place.traceId, spanId: place.spanId }],
      status: 0,
      exceptions: [],
      attributes: { 'post_invoke.carried': false },
    })
    expect(mail.parent).toBeUndefined()
    expect(mail.traceId).not.toBe(place.traceId)
    // What the task itself starts, many calls down, is its child.
    expect(send).toMatchObject({ parent: mail.spanId, traceId: mail.traceId })
    expect(run.logged('')).toEqual([])
  })

  it('marks the span of a task that fails', async () => {
    const run = await start()
    await using _sandbox = run.sandbox
    const spans = await spansOf(run, { id: 'o1' })
    expect(spans.find(({ name }) => name === 'mail')).toMatchObject({ status: 2, exceptions: ['no address'] })
  })
})
