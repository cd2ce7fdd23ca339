import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from '@jest/globals'
import { handOffFixtures } from '../support/hand-off-suite.ts'
import { startManagedInstance } from '../support/managed-instances.ts'
import { realClient } from '../support/require-runtime-clients.ts'
import { eventually, type Mark } from '../support/run.ts'

realClient('ric4') // says what to install
const ric = process.env.POST_INVOKE_TEST_RIC4 as string
const WORKERS = 3

const marksIn = (lines: string[]): Mark[] =>
  lines.flatMap(line => {
    const json = /MARK (\{.*\})/.exec(line)?.[1]
    return json === undefined ? [] : [JSON.parse(json) as Mark]
  })

describe('Managed Instances, aws-lambda-ric 4', () => {
  it('run each task after its own response, in its own context, and register for no INVOKE', async () => {
    const instance = await startManagedInstance({ ric, handler: 'index.handler', workers: WORKERS })
    try {
      const answers = await Promise.all(
        Array.from({ length: 24 }, (_, index) =>
          instance.invoke({ wait: index % 4, tasks: [{ kind: 'sleep', ms: 30, name: `task ${index}` }] }),
        ),
      )
      const count = (what: string) => marksIn(instance.lines).filter(mark => mark.what === what).length
      await eventually(() => count('end') === answers.length, 'all tasks have ended')
      for (const { requestId, t } of answers) {
        const own = marksIn(instance.lines).filter(({ id }) => id === requestId)
        expect(own.map(({ what }) => what)).toEqual(['start', 'end'])
        expect(own[0]?.t).toBeGreaterThan(t)
        expect(own[0]?.user).toBe(requestId)
      }
      expect(instance.registrations).toEqual([])
      expect(instance.lines.filter(line => line.includes('middy-post-invoke'))).toEqual([])
    } finally {
      await instance.stop(100)
    }
  })

  it('run the shutdown hooks of every worker thread, with the preload', async () => {
    const instance = await startManagedInstance({
      ric,
      handler: 'shutdown.handler',
      workers: WORKERS,
      environment: { NODE_OPTIONS: '--import middy-post-invoke/preload' },
    })
    const { signal, hadToBeKilled } = await instance.stop(5_000)
    const hooks = marksIn(instance.lines).flatMap(({ what, name }) => (what === 'hook' ? [name] : []))
    for (const name of ['first', 'second', 'disposable', 'async disposable']) {
      expect(hooks.filter(hook => hook === name)).toHaveLength(WORKERS)
    }
    expect({ signal, hadToBeKilled }).toEqual({ signal: 'SIGKILL', hadToBeKilled: false })
    expect(instance.registrations).toEqual([{ events: [] }])
    expect(instance.lines.filter(line => line.includes('middy-post-invoke'))).toEqual([])
  })

  it('run handed-off work once, after the response that it belongs to, though others answer before', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'post-invoke-managed-'))
    const spool = join(folder, 'spool')
    const waiting = () => (existsSync(spool) ? readdirSync(spool).length : 0)
    const instance = await startManagedInstance({
      ric,
      handler: 'index.handler',
      workers: WORKERS,
      taskRoot: handOffFixtures,
      environment: { POST_INVOKE_JOBS: 'jobs.mjs', POST_INVOKE_SPOOL: spool },
    })
    try {
      const work = [
        ['note', 1],
        ['note', 2],
      ]
      // The slow ones have handed off and have not answered while the others run what waits.
      const slow = Array.from({ length: WORKERS }, () => instance.invoke({ work, waits: 1_000 }))
      await eventually(() => waiting() >= 2 * WORKERS, 'the slow ones have handed off')
      const quick = Array.from({ length: 12 }, () => instance.invoke({ work }))
      const answers = await Promise.all([...quick, ...slow])
      const ran = () => marksIn(instance.lines).filter(({ what }) => what === 'job')
      await eventually(() => ran().length >= 2 * answers.length, 'all work is done')
      for (const { requestId, t } of answers) {
        const own = ran().filter(({ id }) => id === requestId)
        expect(own.map(({ name }) => name).sort()).toEqual([`${requestId}-1`, `${requestId}-2`])
        for (const job of own) expect(job.t).toBeGreaterThan(t)
      }
      await eventually(() => waiting() === 0, 'nothing waits any more')
      expect(instance.lines.filter(line => line.includes('middy-post-invoke'))).toEqual([])
    } finally {
      await instance.stop(100)
      rmSync(folder, { recursive: true, force: true })
    }
  })

  it('say so where there is no preload', async () => {
    const instance = await startManagedInstance({ ric, handler: 'shutdown.handler', workers: WORKERS })
    await instance.stop(5_000)
    const warnings = instance.lines.filter(line => line.includes('no SIGTERM will come'))
    expect(warnings).toHaveLength(WORKERS)
    expect(warnings[0]).toContain('NODE_OPTIONS=--import middy-post-invoke/preload')
    expect(marksIn(instance.lines).filter(({ what }) => what === 'hook')).toEqual([])
  })
})
