import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it } from '@jest/globals'
import type { InvocationReport } from '../../src/sandbox/types.ts'
import { version } from '../../src/version.ts'
import { type CompanionName, eventually, type Run, startRun } from './run.ts'
import type { RuntimeClient } from './runtime-clients.ts'

const TEST_MS = 120_000

const taskRoot = fileURLToPath(new URL('../fixtures/frameworks', import.meta.url))

/** Of API Gateway, version 2.0 of the payload. */
const event = JSON.parse(readFileSync(new URL('../../examples/api-gateway/event.json', import.meta.url), 'utf8'))

const post = (path: string) => ({
  ...event,
  rawPath: path,
  requestContext: { ...event.requestContext, http: { ...event.requestContext.http, path } },
  body: JSON.stringify({ product: 'tea' }),
})

/** Handlers without Middy, the real frameworks on them, and what is written for other platforms, the same whatever the runtime client and the companion. */
export const describeFrameworks = ({ client, companion }: { client: RuntimeClient; companion: CompanionName }) => {
  describe(`handlers without Middy: ${client.name}, ${companion}`, () => {
    const runs: Run[] = []
    afterEach(async () => {
      await Promise.all(runs.splice(0).map(({ sandbox }) => sandbox[Symbol.asyncDispose]()))
    }, TEST_MS)
    const start = async (handler: string) => {
      const run = await startRun({ client, companion, taskRoot, handler })
      runs.push(run)
      return run
    }

    it.each(['plain.handler', 'plain.synchronous', 'plain.nested'])(
      'answer first, then run their tasks: %s',
      async handler => {
        const run = await start(handler)
        for (let invocation = 0; invocation < 2; invocation++) {
          const report = await run.invoke({})
          expect(report).toMatchObject({ status: 'success', timedOut: false })
          expect(report.body()).toEqual({ ok: true, id: report.requestId })
          await expectAfterwards(run, report, ['on success', 'imported', 'by context'], 'success')
        }
        expect(run.logged('')).toEqual([])
      },
      TEST_MS,
    )

    it.each(['plain.handler', 'plain.synchronous'])(
      'fail as they would, and run their tasks with that outcome: %s',
      async handler => {
        const run = await start(handler)
        const report = await run.invoke({ throws: true })
        expect(report).toMatchObject({ kind: 'error', status: 'error' })
        expect(report.body().errorMessage).toBe('handler threw')
        await expectAfterwards(run, report, ['on error', 'imported', 'by context'], 'error')
        expect(run.marks(report.requestId).find(({ what }) => what === 'start')?.error).toBe('handler threw')
      },
      TEST_MS,
    )

    it(
      'run their hooks at shutdown',
      async () => {
        const run = await start('plain.handler')
        await run.invoke({})
        await run.sandbox.shutdown()
        expect(run.marks().filter(({ what }) => what === 'hook')).toMatchObject([{ name: 'hook' }])
      },
      TEST_MS,
    )

    it(
      'say so where they take a callback',
      async () => {
        const run = await start('plain.callsBack')
        const report = await run.invoke({})
        expect(report.kind).toBe('error')
        expect(report.body().errorMessage).toContain('Expected a handler that returns a promise')
      },
      TEST_MS,
    )

    it.each(['streamed.handler', 'streamed.wrappedLast'])(
      'run the tasks of a stream once its last byte has been accepted: %s',
      async handler => {
        const run = await start(handler)
        const report = await run.invoke({})
        expect(report).toMatchObject({ status: 'success', streamed: true })
        expect(report.payload).toMatch(/"statusCode":201.*\0{8}chunk 0\nchunk 1\nchunk 2\n$/s)
        await expectAfterwards(run, report, ['last', 'first'], 'success')
      },
      TEST_MS,
    )

    it(
      'Hono: c.executionCtx.waitUntil(promise) and defer(task)',
      async () => {
        const run = await start('hono.handler')
        const report = await run.invoke(post('/orders'))
        expect(report.body()).toMatchObject({ statusCode: 201, body: '{"placed":"tea"}' })
        await expectAfterwards(run, report, ['imported', 'waitUntil'], 'success')
        const rejecting = await run.invoke(post('/rejects'))
        expect(rejecting.body()).toMatchObject({ statusCode: 200, body: 'fine' })
        expect(run.logged(`task "waitUntil" of request ${rejecting.requestId} failed`)).toHaveLength(1)
        expect(rejecting.status).toBe('success')
      },
      TEST_MS,
    )

    it(
      'Hono, streamed',
      async () => {
        const run = await start('hono.streamed')
        const report = await run.invoke(post('/streamed'))
        expect(report).toMatchObject({ status: 'success', streamed: true })
        expect(report.payload).toContain('chunk 0\nchunk 1\nchunk 2\n')
        await expectAfterwards(run, report, ['last', 'waitUntil'], 'success')
      },
      TEST_MS,
    )

    it.each(['globals.handler', 'globals.plain'])(
      'nothing stands in the global scope, with the default options, that another library could take for a platform: %s',
      async handler => {
        const run = await start(handler)
        await run.invoke({})
        const { added, inTask } = (await run.invoke({})).body() // the second one sees what the first one's task saw, too
        const pipe = companion === 'gate' ? [] : ['Symbol(middy-post-invoke/companion)']
        expect(added).toEqual({
          globals: [`Symbol(middy-post-invoke/${version}/finder)`, ...pipe, `Symbol(middy-post-invoke/${version})`],
          variables: ['POST_INVOKE_PID'],
        })
        expect(inTask).toEqual(added)
        expect(run.logged('')).toEqual([])
      },
      TEST_MS,
    )

    it.each(['vercel.handler', 'vercel.plain'])(
      '@vercel/functions and what Next does: waitUntil(promise): %s',
      async handler => {
        const run = await start(handler)
        const report = await run.invoke({})
        expect(report.body()).toEqual({ hasDeadline: true })
        const names = ['@vercel/functions', 'next', 'ends the first', 'ends the second']
        await expectAfterwards(run, report, names, 'success')
        expect(run.logged('')).toEqual([])
        const rejecting = await run.invoke({ rejects: true })
        await expectAfterwards(run, rejecting, names, 'success')
        expect(run.logged(`task "waitUntil" of request ${rejecting.requestId} failed`)).toHaveLength(1)
        expect(rejecting.status).toBe('success')
      },
      TEST_MS,
    )

    it(
      'serverless-express with Express: the context, the imported defer, and a listener of the response',
      async () => {
        const run = await start('express.handler')
        const report = await run.invoke(post('/orders'))
        expect(report.body()).toMatchObject({ statusCode: 201, body: '{"placed":"tea"}' })
        await expectAfterwards(run, report, ['on finish', 'imported', 'by context'], 'success')
        const failed = await run.invoke(post('/throws'))
        expect(failed.body()).toMatchObject({ statusCode: 500 })
        await expectAfterwards(run, failed, ['imported'], 'success')
      },
      TEST_MS,
    )
  })
}

/** Each has ended once, after the response and before the release. */
const expectAfterwards = async (
  run: Run,
  { requestId }: InvocationReport,
  names: readonly string[],
  outcome: 'success' | 'error',
) => {
  const ends = () => run.marks(requestId).filter(({ what }) => what === 'end')
  await eventually(() => ends().length >= names.length, `${names.join(', ')} have ended`)
  expect(
    ends()
      .map(({ name }) => name)
      .sort(),
  ).toEqual([...names].sort())
  for (const { t } of ends()) {
    expect(t).toBeGreaterThan(run.time('response', requestId))
    expect(t).toBeLessThan(run.time('released', requestId))
  }
  for (const { what, t, outcome: given } of run.marks(requestId)) {
    if (what !== 'start') continue
    expect(given).toBe(outcome)
    expect(t).toBeGreaterThan(run.time('response', requestId))
  }
}
