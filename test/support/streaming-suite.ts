import { randomUUID } from 'node:crypto'
import { rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import type { InvocationReport } from '../../src/sandbox/types.ts'
import { type CompanionName, eventually, type Run, startRun } from './run.ts'
import type { RuntimeClient } from './runtime-clients.ts'

const TEST_MS = 120_000

type Body = {
  shape: 'string' | 'Readable' | 'web ReadableStream'
  size: 'empty' | 'small' | '1 MB' | 'slow'
  /** With status code, headers and cookies, or the bare body. */
  http: boolean
}

const bodies: Body[] = [true, false].flatMap(http => [
  ...(['empty', 'small', '1 MB'] as const).map(size => ({ shape: 'string', size, http }) as const),
  ...(['Readable', 'web ReadableStream'] as const).flatMap(shape =>
    (['empty', 'small', '1 MB', 'slow'] as const).map(size => ({ shape, size, http })),
  ),
])

const nameOf = ({ shape, size, http }: Body) => `${shape}, ${size}, ${http ? 'with a status code' : 'bare'}`

/** Streamed answers, the same whatever the runtime client and the companion. */
export const describeStreaming = (setup: { client: RuntimeClient; companion: CompanionName; freeze?: boolean }) => {
  const { client, companion, freeze = false } = setup
  describe(`streamed answers: ${client.name}, ${companion}${freeze ? ', frozen between invocations' : ''}`, () => {
    let without: Run
    let run: Run
    beforeAll(async () => {
      without = await startRun({ client, freeze, handler: 'bodies-without.handler' })
      run = await startRun({ client, companion, freeze, handler: 'bodies-with.handler' })
    }, TEST_MS)
    afterAll(async () => {
      await without?.sandbox[Symbol.asyncDispose]()
      await run?.sandbox[Symbol.asyncDispose]()
    })

    it.each(bodies.map(body => [nameOf(body), body] as const))(
      'are sent byte for byte as without the middleware: %s',
      async (_, body) => {
        const expected = await invoke(without, body)
        expect(expected).toMatchObject({ status: 'success', streamed: true })
        expect(Buffer.byteLength(expected.payload)).toBeGreaterThanOrEqual(leastBytes[body.size])
        for (const defer of [[], ['handler']]) {
          const given = await invoke(run, { ...body, defer })
          expect(given.status).toBe('success')
          // Compared as a whole, but not shown by a failure: it can be a megabyte.
          expect(given.payload === expected.payload).toBe(true)
          expect(comparable(given)).toEqual(comparable(expected))
          await expectPostInvoke(run, given, defer)
        }
      },
      TEST_MS,
    )

    it.each(bodies.filter(({ shape }) => shape !== 'string').map(body => [nameOf(body), body] as const))(
      'can defer while they are sent: %s',
      async (_, body) => {
        const defer = ['handler', 'first', 'first imported', 'last', 'last imported']
        const expected = await invoke(without, body)
        const given = await invoke(run, { ...body, defer })
        expect(given.payload === expected.payload).toBe(true)
        expect(comparable(given)).toEqual(comparable(expected))
        await expectPostInvoke(run, given, defer)
      },
      TEST_MS,
    )

    it('have warned of nothing', () => {
      expect(run.logged('')).toEqual([])
      for (const { sandbox } of [run, without]) {
        expect(sandbox.events.filter(({ type }) => type === 'reset' || type === 'timeout')).toEqual([])
      }
    })
  })
}

const leastBytes = { empty: 0, small: 1_000, '1 MB': 2 ** 20, slow: 'first byte\nline 0\n'.length }

/** The payload is text, as which every sequence of whole UTF-8 characters has its own value. */
const comparable = ({ kind, streamed, contentType, errorType, trailers, payload }: InvocationReport) => ({
  ...{ kind, streamed, contentType, errorType, trailers },
  bytes: Buffer.byteLength(payload),
})

/** A slow body ends only after the caller has had its first byte. */
const invoke = async (run: Run, body: Body & { defer?: string[] }): Promise<InvocationReport> => {
  if (body.size !== 'slow') return run.invoke(body)
  const continueWhen = join(tmpdir(), `post-invoke-${randomUUID()}`)
  const sent = run.sandbox.send({ ...body, continueWhen })
  try {
    await eventually(
      () =>
        run.sandbox.events.some(event => event.type === 'response-first-byte' && event.requestId === sent.requestId),
      'the caller has the first byte',
    )
    await writeFile(continueWhen, '')
    return await sent.released
  } finally {
    await rm(continueWhen, { force: true })
  }
}

/** Each task ran once, last in, first out, after the last byte was accepted and before the release. */
const expectPostInvoke = async (run: Run, { requestId }: InvocationReport, deferred: string[]): Promise<void> => {
  const tasks = () => run.marks(requestId).filter(({ what }) => what === 'start' || what === 'end')
  await eventually(() => tasks().length >= 2 * deferred.length, `${deferred.join(', ')} have ended`)
  expect(tasks().map(({ what, name }) => `${what} ${name}`)).toEqual(
    deferred.toReversed().flatMap(name => [`start ${name}`, `end ${name}`]),
  )
  for (const { what, t, outcome } of tasks()) {
    expect(t).toBeGreaterThan(run.time('response', requestId))
    expect(t).toBeLessThan(run.time('released', requestId))
    if (what === 'start') expect(outcome).toBe('success')
  }
}
