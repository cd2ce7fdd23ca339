// The oldest version of Middy that the package takes, the one it is developed with, and Middy 6 from the outside: every way in which an invocation
// can end, and a stream.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from '@jest/globals'
import { realClient } from '../support/require-runtime-clients.ts'
import { startRun } from '../support/run.ts'

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))

const current = path('../../node_modules/@middy/core')
const {
  POST_INVOKE_TEST_MIDDY: oldest = 'POST_INVOKE_TEST_MIDDY: see scripts/install-test-runtimes.sh',
  POST_INVOKE_TEST_MIDDY6: six = 'POST_INVOKE_TEST_MIDDY6: see scripts/install-test-runtimes.sh',
} = process.env

/** Middy 6 has withPostInvoke() around it, which sees no error that a middleware has made an answer of. */
const combinations = [
  { middy: oldest, file: 'handlers', handled: 'error handled' },
  { middy: current, file: 'handlers', handled: 'error handled' },
  { middy: six, file: 'middy6', handled: 'success' },
].flatMap(setup => [
  { ...setup, client: realClient('ric3'), companion: 'internal' as const },
  { ...setup, client: realClient('ric4'), companion: 'gate' as const },
])

const manifest = (folder: string) => JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))

it('is tried with the oldest minor version that the package takes', () => {
  const [, minor] = /^\^(\d+\.\d+)\./.exec(manifest(path('../..')).peerDependencies['@middy/core']) ?? []
  expect(manifest(oldest).version.split('.').slice(0, 2).join('.')).toBe(minor)
})

describe.each(combinations)(
  '@middy/core in $middy, $client.name, $companion',
  ({ middy, file, handled, client, companion }) => {
    const start = (handler: string) =>
      startRun({
        ...{ client, companion, freeze: true, taskRoot: path('../fixtures/middy'), handler },
        environment: { MIDDY: middy },
      })

    it('runs tasks after each kind of end', async () => {
      const run = await start(`${file}.buffered`)
      await using sandbox = run.sandbox
      const ends: unknown[] = []
      for (const how of ['returns', 'early', 'handled', 'throws']) {
        const report = await run.invoke({ how })
        const invoked = sandbox.events.find(event => event.type === 'invoke' && event.requestId === report.requestId)
        const begin = invoked?.at ?? Number.NaN
        const task = sandbox.logs.find(line => line.text.includes('TASK ') && line.at > begin)
        expect(task?.at).toBeGreaterThan(begin + report.at)
        expect(task?.at).toBeLessThan(begin + report.releasedAt)
        const answer = report.kind === 'response' ? report.body() : report.errorType
        ends.push([how, report.kind, answer, /TASK (.*);/.exec(task?.text ?? '')?.[1]?.trim()])
      }
      expect(ends).toEqual([
        ['returns', 'response', 'done', 'success'],
        ['early', 'response', 'early', 'success'],
        ['handled', 'response', 'handled', handled],
        ['throws', 'error', 'Error', 'error throws'],
      ])
      expect(run.logged('')).toEqual([])
    })

    it('runs tasks after a stream', async () => {
      const run = await start(`${file}.streamed`)
      await using sandbox = run.sandbox
      const report = await run.invoke({})
      expect([report.status, report.streamed]).toEqual(['success', true])
      expect(report.payload).toMatch(/one two$/)
      expect(sandbox.logs.filter(({ text }) => text.includes('TASK success'))).toHaveLength(1)
      expect(run.logged('')).toEqual([])
    })
  },
)
