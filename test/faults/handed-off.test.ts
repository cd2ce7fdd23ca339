// What becomes of handed-off work when something goes wrong: a request and a job, with the layer and without it.
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from '@jest/globals'
import type { SentInvocation } from '../../src/sandbox/types.ts'
import { keyOf, type Row, readRows, writeRows, writesDocs } from '../support/fault-table.ts'
import { type HandOffRun, plant, startHandOff, waiting } from '../support/hand-off-suite.ts'
import { realClient } from '../support/require-runtime-clients.ts'
import { type CompanionName, eventually } from '../support/run.ts'

type Fault = {
  readonly injected: string
  readonly event?: Record<string, unknown>
  readonly timeout?: number
  readonly onlyLayer?: boolean
  readonly isSkipped?: boolean
  /** Makes the spool's place. @returns what undoes it. */
  readonly spool?: (path: string) => () => void
  readonly during?: (run: HandOffRun, sent: SentInvocation) => Promise<void>
}

const isRoot = process.getuid?.() === 0

const faults: readonly Fault[] = [
  { injected: 'The function times out', event: { hangs: true }, timeout: 1_500 },
  { injected: 'The process is killed in the handler', event: { dies: 'same tick' } },
  { injected: 'The process is killed as its response is posted', event: { dies: 'with the response' } },
  { injected: 'The process is killed right after its response', event: { dies: 'after' } },
  {
    injected: 'The companion is killed while the work runs',
    onlyLayer: true,
    event: { first: ['sleep', { ms: 300 }] },
    async during(run, { requestId }) {
      await eventually(() => run.marks(requestId).some(({ what }) => what === 'sleep'), 'the work has begun')
      process.kill(Object.values(run.sandbox.extensionPids)[0] as number, 'SIGKILL')
    },
  },
  {
    injected: 'The work takes longer than the function may',
    event: { sleeps: 1_000, first: ['sleep', { ms: 1_000 }] },
    timeout: 2_000,
  },
  {
    injected: 'The spool holds what is no entry',
    spool(path) {
      plant(path, '{"half')
      return () => {}
    },
  },
  {
    injected: 'The disk is full',
    isSkipped: !isRoot,
    spool(path) {
      mkdirSync(path, { mode: 0o700 })
      const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=4k,mode=0700', 'tmpfs', path])
      if (mounted.status !== 0) throw new Error(`mount: ${mounted.stderr}`)
      writeFileSync(join(path, 'all-there-is'), Buffer.alloc(4_096))
      return () => void spawnSync('umount', ['-l', path])
    },
  },
]

const combinations = (
  [
    ['ric3', 'layer'],
    ['ric3', 'internal'],
    ['ric4', 'layer'],
    ['ric4', 'gate'],
  ] as const
).map(([kind, companion]) => ({ client: realClient(kind), companion: companion as CompanionName }))

const TABLE = 'handed-off'

const cases = faults.flatMap(fault =>
  combinations
    .filter(({ companion }) => !fault.onlyLayer || companion === 'layer')
    .map(({ client, companion }) => ({
      fault,
      client,
      companion,
      place: {
        injected: fault.injected,
        client: client.name.replace('aws-lambda-ric', 'RIC'),
        companion: companion === 'internal' ? 'internal extension' : companion,
      },
    })),
)

describe(TABLE, () => {
  const keys = cases.map(({ place }) => keyOf(place))
  const ran: Row[] = []

  for (const { fault, client, companion, place } of cases) {
    const test = fault.isSkipped ? it.skip : it
    test(`${keyOf(place)}`, async () => {
      const folder = mkdtempSync(join(tmpdir(), 'post-invoke-faults-'))
      const spool = join(folder, 'spool')
      const undo = fault.spool?.(spool)
      try {
        await using run = await startHandOff({
          client,
          companion,
          freeze: true,
          timeout: fault.timeout ?? 10_000,
          patience: 1_500,
          // Time enough for a busy machine: what is measured elsewhere is how long it holds.
          environment: { POST_INVOKE_SPOOL: spool, POST_INVOKE_HAND_OFF_BUDGET: '3000' },
        })
        const row = { ...place, ...(await observe(fault, { ...run, spool })) }
        expect(row.verdict).not.toBe('a silent loss')
        ran.push(row)
        if (!writesDocs) expect(row).toEqual(readRows(TABLE).find(other => keyOf(other) === keyOf(row)))
      } finally {
        undo?.()
        rmSync(folder, { recursive: true, force: true })
      }
    }, 240_000)
  }

  afterAll(() => {
    if (writesDocs) writeRows(TABLE, keys, ran)
  })

  if (!writesDocs) {
    it('has these rows in the table, and no others', () => {
      expect(readRows(TABLE).map(keyOf)).toEqual(keys)
    })
  }
})

const observe = async (fault: Fault, run: HandOffRun): Promise<Omit<Row, 'injected' | 'client' | 'companion'>> => {
  const { first = ['note'], ...event } = { ...fault.event } as { first?: unknown[] }
  const sent = run.sandbox.send({ ...event, work: [first, [{ url: run.target.url, body: 'x' }]] })
  await fault.during?.(run, sent)
  const report = await sent.released
  const { requestId } = report
  const jobs = () => run.marks(requestId).filter(({ what }) => what === 'job').length
  const requests = () => run.target.keys().get(`${requestId}-2`) ?? 0
  // At the end of a function that timed out there may be time for it, or not.
  const areDoneBefore = jobs() > 0 && requests() > 0
  const next = await run.invoke({})
  // What was tried waits out its backoff, and what a dead process had taken its lease.
  const end = performance.now() + 15_000
  const isWaiting = () => waiting(run).some(name => name !== 'all-there-is')
  while (isWaiting() && performance.now() < end) await run.invoke({})
  await run.sandbox.shutdown()

  const errors = report.kind === 'response' ? (report.body().errors as { code: string }[]) : []
  const isRefused = errors.length === 2
  const isDone = jobs() > 0 && requests() > 0
  const hasTimedOut = report.timedOut && report.kind === 'error'
  const logged = [
    ['an entry of the spool cannot be read', '`an entry of the spool cannot be read`'],
    // As said, of a function that timed out this is a matter of chance.
    ...(hasTimedOut
      ? []
      : [['time was up before handed-off work was done', '`time was up before handed-off work was done`']]),
  ].flatMap(([text = '', words = '']) => (run.logged(text).length > 0 ? [words] : []))
  const isNextFine = next.status === 'success' && !next.timedOut
  const left = waiting(run).filter(name => name !== 'all-there-is').length
  return {
    caller: hasTimedOut ? 'a timeout' : report.kind === 'error' ? 'an error of Lambda' : 'its answer',
    tasks: isRefused
      ? `\`handOff()\` threw \`${errors[0]?.code}\`, twice`
      : isDone
        ? `the job ran, the request arrived${areDoneBefore || report.timedOut ? '' : ', with the next invocation'}`
        : `${jobs() > 0 ? 'the job ran' : 'the job did not run'}, ${requests() > 0 ? 'the request arrived' : 'the request did not arrive'}`,
    logged: logged.join('; ') || 'nothing',
    next: isNextFine ? 'undisturbed' : `${next.status}`,
    verdict: (isDone || isRefused) && left === 0 && isNextFine ? 'unharmed' : 'a silent loss',
  }
}
