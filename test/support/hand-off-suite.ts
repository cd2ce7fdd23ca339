// Handed-off work in a sandbox, with one runtime client and one companion: that it runs after the response and the tasks,
// holds the environment until it is done, and outlives what can.
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from '@jest/globals'
import { type CompanionName, eventually, type Run, startRun } from './run.ts'
import type { RuntimeClient } from './runtime-clients.ts'
import { startTarget, type Target } from './target.ts'

export const handOffFixtures = fileURLToPath(new URL('../fixtures/hand-off', import.meta.url))

export type HandOffRun = Run & { readonly spool: string; readonly target: Target }

/** An environment with the fixture's handler and jobs, and a server that it can send requests to. */
export const startHandOff = async (
  options: Omit<Parameters<typeof startRun>[0], 'taskRoot'> & { answer?: Parameters<typeof startTarget>[0] },
): Promise<HandOffRun & AsyncDisposable> => {
  const { answer, ...rest } = options
  const target = await startTarget(answer)
  const spool = `${tmpdir()}/post-invoke-test-${process.pid}-${Math.random().toString(36).slice(2)}`
  try {
    const run = await startRun({
      ...rest,
      taskRoot: handOffFixtures,
      environment: { POST_INVOKE_JOBS: 'jobs.mjs', POST_INVOKE_SPOOL: spool, ...rest.environment },
    })
    return {
      ...run,
      spool,
      target,
      async [Symbol.asyncDispose]() {
        await run.sandbox[Symbol.asyncDispose]()
        await target[Symbol.asyncDispose]()
        rmSync(spool, { recursive: true, force: true })
      },
    }
  } catch (error) {
    await target[Symbol.asyncDispose]()
    throw error
  }
}

/** What waits in the spool. */
export const waiting = ({ spool }: HandOffRun): string[] => {
  try {
    return readdirSync(spool).filter(name => /^(\d|part-)/.test(name))
  } catch {
    return []
  }
}

/** Writes an entry as the package does, or one that it never would. @returns its path. */
export const plant = (spool: string, text: string): string => {
  mkdirSync(spool, { recursive: true, mode: 0o700 })
  const path = `${spool}/${Date.now()}-${Date.now()}-00-00-planted-00000000.json`
  writeFileSync(path, text, { mode: 0o600 })
  return path
}

const jobsOf = (run: HandOffRun, requestId?: string) => run.marks(requestId).filter(({ what }) => what === 'job')

export const describeHandOff = ({ client, companion }: { client: RuntimeClient; companion: CompanionName }): void => {
  const start = (options: Partial<Parameters<typeof startHandOff>[0]> = {}) =>
    startHandOff({ client, companion, freeze: true, ...options })
  const isLayer = companion === 'layer'

  describe(`handed-off work: ${client.name}, ${companion}`, () => {
    it.each([false, true])(
      'runs after the response, and holds the environment until it is done (imported: %s)',
      async imported => {
        await using run = await start({
          answer: response => void setTimeout(() => response.end(), 100),
        })
        for (let count = 0; count < 3; count++) {
          run.target.received.length = 0
          const report = await run.invoke({
            imported,
            work: [[{ url: run.target.url, body: 'a' }], ['sleep', { ms: 100 }]],
          })
          const { requestId } = report
          expect(report).toMatchObject({ status: 'success', timedOut: false })
          expect(run.target.received).toHaveLength(1)
          expect(run.target.received[0]?.headers['idempotency-key']).toBe(`${requestId}-1`)
          const [job] = jobsOf(run, requestId)
          expect(job?.name).toBe(`${requestId}-2`)
          for (const t of [run.target.received[0]?.t, job?.t]) {
            expect(t).toBeGreaterThan(run.time('response', requestId))
            expect(t).toBeLessThan(run.time('released', requestId))
          }
          expect(waiting(run)).toEqual([])
        }
        expect(run.logged('WARN')).toEqual([])
        expect(run.logged('ERROR')).toEqual([])
      },
    )

    it('runs after the tasks, and what a task hands off runs too', async () => {
      await using run = await start()
      for (let count = 0; count < 2; count++) {
        const { requestId } = await run.invoke({ work: [['note']], later: ['note', { later: true }], sleeps: 100 })
        const order = run.marks(requestId).map(({ what }) => what)
        expect(order).toEqual(['slept', 'job', 'job'])
      }
    })

    it('runs after an error of the handler too', async () => {
      await using run = await start()
      const report = await run.invoke({ throws: true, work: [['note']] })
      expect(report.status).toBe('error')
      expect(jobsOf(run, report.requestId)).toHaveLength(1)
    })

    it('does not run for longer than the function may, goes on with the next invocation, and says so', async () => {
      // Time enough for a thread to start on a busy machine.
      await using run = await start({ timeout: 6_000, environment: { POST_INVOKE_HAND_OFF_BUDGET: '3000' } })
      const first = await run.invoke({ work: [['sleep', { ms: 60_000 }], ['note']] })
      expect(first).toMatchObject({ status: 'success', timedOut: false })
      expect(run.logged('time was up before handed-off work was done: "sleep"', first.requestId)).toHaveLength(1)
      expect(run.marks(first.requestId).map(({ what }) => what)).toEqual(expect.arrayContaining(['sleep', 'job']))
      const sleeps = () =>
        run.marks(first.requestId).filter(({ what, name }) => what === 'sleep' && name === `${first.requestId}-1`)
      await eventually(async () => {
        await run.invoke({})
        return sleeps().length === 2
      }, 'the job has begun again')
    })

    it('waits in the spool when the function times out', async () => {
      await using run = await start({
        timeout: 2_500,
        patience: 2_000,
        environment: { POST_INVOKE_HAND_OFF_BUDGET: '2000' },
      })
      const first = await run.invoke({ hangs: true, work: [['note'], [{ url: run.target.url }]] })
      expect(first.timedOut).toBe(true)
      // The layer's companion has two seconds at the end of the environment; any other one has the next one's.
      const hasEnded = () => run.sandbox.events.some(({ type }) => type === 'shutdown-ended')
      await eventually(async () => {
        if (!isLayer || hasEnded()) await run.invoke({})
        return waiting(run).length === 0
      }, 'all is done')
      // Once, but for one that was done at the very moment at which time was up.
      expect(jobsOf(run, first.requestId).length).toBeGreaterThanOrEqual(1)
      expect([...run.target.keys().keys()]).toEqual([`${first.requestId}-2`])
    })

    it.each(['same tick', 'with the response', 'after'])('outlives its process, killed: %s', async dies => {
      await using run = await start()
      for (const warm of [false, true]) {
        if (warm) await run.invoke({})
        const report = await run.invoke({ dies, work: [['note'], [{ url: run.target.url }]] })
        expect(report.status).toBe('crash')
        await run.invoke({})
        expect(jobsOf(run, report.requestId).length).toBeGreaterThanOrEqual(1)
        expect(run.target.keys().get(`${report.requestId}-2`)).toBeGreaterThanOrEqual(1)
        expect(waiting(run)).toEqual([])
      }
    })

    it('tells a job the tenant of its request', async () => {
      await using run = await start()
      for (const tenantId of ['blue', undefined]) {
        const { requestId } = await run.invoke({ tenantId, work: [['note']] })
        expect(jobsOf(run, requestId)).toHaveLength(1)
        expect((jobsOf(run, requestId)[0] as { tenantId?: string }).tenantId).toBe(tenantId)
      }
    })

    it('sets aside what is no entry, and says so', async () => {
      await using run = await start()
      plant(run.spool, '{"half')
      const { requestId } = await run.invoke({ work: [['note']] })
      expect(jobsOf(run, requestId)).toHaveLength(1)
      expect(run.logged('an entry of the spool cannot be read (it is not JSON)', '-planted-')).toHaveLength(1)
      expect(readdirSync(run.spool)).toEqual([expect.stringMatching(/^corrupt-\d{13}-planted-/)])
    })

    it('is refused where it cannot be written down', async () => {
      await using run = await start({ environment: { POST_INVOKE_SPOOL: '/proc/spool' } })
      const report = await run.invoke({ work: [['note']] })
      expect(report.body().errors).toEqual([{ code: 'ERR_SPOOL', message: expect.stringContaining('/proc/spool') }])
      expect(report.status).toBe('success')
    })

    if (!isLayer) return

    it('does what its companion was killed in the middle of, at least once', async () => {
      await using run = await start()
      const sent = run.sandbox.send({ work: [['sleep', { ms: 300 }], [{ url: run.target.url }]] })
      await eventually(() => run.marks(sent.requestId).some(({ what }) => what === 'sleep'), 'the job has begun')
      process.kill(Object.values(run.sandbox.extensionPids)[0] as number, 'SIGKILL')
      await sent.released
      await eventually(async () => {
        await run.invoke({})
        return jobsOf(run, sent.requestId).length === 1
      }, "the dead process' lease has ended, and the job has run")
      expect(run.target.keys().get(`${sent.requestId}-2`)).toBeGreaterThanOrEqual(1)
    })

    it('that ends, burns or breaks its thread neither ends nor blocks the companion', async () => {
      await using run = await start({ timeout: 20_000 })
      const once = { retry: { maxRetries: 0 } }
      const report = await run.invoke({
        work: [['exits', null, once], ['uncaught', null, once], ['burns', null, once], ['note']],
      })
      expect(report).toMatchObject({ status: 'success', timedOut: false })
      expect(jobsOf(run, report.requestId)).toHaveLength(1)
      expect(run.logged('"exits"', 'the job ended its thread with code 3')).toHaveLength(1)
      expect(run.logged('"uncaught"', 'nobody caught this')).toHaveLength(1)
      expect(run.logged('"burns"', 'no end within')).toHaveLength(1)
    })

    it('is done within the last two seconds, when the environment ends', async () => {
      await using run = await start({ timeout: 700, patience: 5_000 })
      const { requestId } = await run.invoke({ work: [['sleep', { ms: 600 }]] })
      expect(jobsOf(run, requestId)).toEqual([])
      await run.sandbox.shutdown()
      expect(jobsOf(run, requestId)).toHaveLength(1)
    })
  })
}
