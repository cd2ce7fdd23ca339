import { readFileSync } from 'node:fs'
import { expect, it } from '@jest/globals'
import { type CompanionName, startRun } from './run.ts'
import type { RuntimeClient } from './runtime-clients.ts'

type Books = {
  deferred: number
  ran: number
  skipped: number
  failing: number
  reported: number
  wrong: string[]
  unfinished: string[]
  heapUsed: number
  rss: number
  handles: number
}

/** The first invocations fill caches and compile code: what grows after them is a leak. */
const WARM_UP = 0.2

/** What the garbage collector's noise comes to from 800 to 4,000 invocations; one that is retained is over 5,000. */
const NOISE_BYTES = 500
const ENOUGH_TO_MEASURE = 4_000

/** Thousands of invocations in one environment, beside the others of the file. */
export const testManyInvocations = (client: RuntimeClient, companion: CompanionName, count: number): void => {
  it.concurrent(
    `${client.name}, ${companion}: ${count.toLocaleString('en')} invocations, each answered, each task run or reported once`,
    async () => {
      const run = await startRun({
        client,
        companion,
        handler: 'many.handler',
        environment: { POST_INVOKE_LOG_LEVEL: 'SILENT' },
      })
      await using _sandbox = run.sandbox
      const read = async () => (await run.invoke({ read: true })).body<Books>()

      let answered = 0
      let early: Books | undefined
      for (let n = 1; n <= count; n++) {
        const report = await run.invoke({ n })
        expect(report.timedOut).toBe(false)
        if (report.kind === 'response' || report.body().errorMessage === 'handler threw') answered++
        if (n === count * WARM_UP) early = await read()
      }
      const late = await read()

      expect(answered).toBe(count)
      expect(late.wrong).toEqual([])
      expect(late.unfinished).toEqual([])
      expect(late.deferred).toBeGreaterThan(count)
      expect(late.ran).toBe(late.deferred - late.skipped)
      expect(late.reported).toBe(late.failing)
      expect(late.failing).toBeGreaterThan(0)
      expect(late.handles).toBeLessThanOrEqual((early as Books).handles + 1)
      const growth = (late.heapUsed - (early as Books).heapUsed) / (count * (1 - WARM_UP))
      console.log(
        `${client.name}, ${companion}: ${answered} answered, ${late.deferred} deferred, ${late.ran} run, ${late.skipped} not for the outcome, ${late.reported} failures reported; heap ${growth.toFixed(1)} bytes an invocation, handles ${early?.handles} then ${late.handles}, RSS ${megabytes(late.rss)} MB${companionMemory(run.sandbox.extensionPids)}`,
      )
      if (count >= ENOUGH_TO_MEASURE) expect(growth).toBeLessThan(NOISE_BYTES)
      expect(run.sandbox.events.filter(({ type }) => type === 'reset')).toEqual([])
    },
    60_000 + count * 100,
  )
}

const companionMemory = (pids: Readonly<Record<string, number>>) =>
  Object.values(pids)
    .map(pid => `, companion's RSS ${/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]} kB`)
    .join('')

const megabytes = (bytes: number) => (bytes / 2 ** 20).toFixed(1)
