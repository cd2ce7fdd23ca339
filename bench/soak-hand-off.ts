// Hands work off in many environments one after the other, with receivers that are dead, slow, flapping or want to be left
// alone, jobs that exit, fill the memory or kill who runs them, and processes that are killed at random; and keeps the
// books: each piece is done, or named as given up, or waits within its bounds. It fails when one is missing, when an
// environment does not recover, or when a piece was done twice and no process had died and no time been up.
//
//   node bench/soak-hand-off.ts [--faults 10000] [--minutes n] [--seed n] [--client ric3|ric4] [--companion layer|gate|internal]
import { randomInt } from 'node:crypto'
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { type CompanionName, type Run, startRun } from '../test/support/run.ts'
import { type RuntimeClient, runtimeClients } from '../test/support/runtime-clients.ts'
import { createLot, type Lot } from './soak/plan.ts'

const { values } = parseArgs({
  options: {
    faults: { type: 'string', default: '10000' },
    minutes: { type: 'string', default: '600' },
    seed: { type: 'string' },
    client: { type: 'string' },
    companion: { type: 'string' },
  },
})

/** How many environments there are at a time: most of them wait most of the time. */
const SIDE_BY_SIDE = 4

const TIMEOUT_MS = 3_000
const BUDGET_MS = 400
/** Of each piece: short enough for its bounds to be reached while its environment lives. */
const RETRY = { maxRetries: 3, minTimeout: 40, maxTimeout: 300, timeoutFactor: 2 }
/** So long an environment may need until nothing waits any more. */
const DRAIN_MS = 30_000

type Piece = { readonly key: string; readonly what: string; readonly isJob: boolean }

const totals = {
  environments: 0,
  invocations: 0,
  pieces: 0,
  faults: 0,
  deaths: 0,
  resets: 0,
  done: 0,
  givenUp: 0,
  lostByName: 0,
  waiting: 0,
  missing: 0,
  twice: 0,
  unexplained: 0,
  loops: 0,
}
const byFault = new Map<string, number>()
const problems: string[] = []

/** How often each request was answered well. */
const answered = new Map<string, number>()

const RECEIVERS: Record<string, (response: ServerResponse, count: number) => void> = {
  healthy: response => void response.end(),
  dead: () => {},
  slow: response => void setTimeout(() => response.end(), 250),
  flapping: (response, count) =>
    count % 3 === 0 ? response.end() : count % 3 === 1 ? response.destroy() : response.writeHead(503).end(),
  limiting: (response, count) =>
    count % 2 ? response.writeHead(429, { 'Retry-After': '1' }).end() : void response.end(),
}

const startReceivers = async (): Promise<Record<string, string>> => {
  const urls: Record<string, string> = {}
  for (const [name, answer] of Object.entries(RECEIVERS)) {
    let count = 0
    const server = createServer((request, response) => {
      const key = String(request.headers['idempotency-key'])
      request.resume()
      response.on('finish', () => {
        if (response.statusCode === 200) answered.set(key, (answered.get(key) ?? 0) + 1)
      })
      answer(response, count++)
    })
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    server.unref()
    urls[name] = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  }
  return urls
}

/** Jobs that cost no process, those that do, and how often each is drawn. */
const JOBS: readonly (readonly [string, number, unknown?])[] = [
  ['note', 6],
  ['sleep', 2, { ms: 100 }],
  ['sleep', 1, { ms: 5_000 }],
  ['throws', 2],
  ['exits', 3],
  ['fills', 1],
  ['uncaught', 1],
  ['throwsLate', 2],
  ['rejectsLate', 1],
  ['burns', 1],
  ['kills', 1],
]
const HARMLESS = ['note', 'healthy']

const drawPieces = (lot: Lot, urls: Record<string, string>, prefix: string) => {
  const jobs = JOBS.flatMap(([name, weight, payload]) => Array.from({ length: weight }, () => ({ name, payload })))
  const pieces: Piece[] = []
  const work: unknown[][] = []
  for (let index = 0; index <= lot.below(4); index++) {
    const key = `${prefix}-${index}`
    const options = { name: key, idempotencyKey: key, retry: RETRY }
    if (lot.below(2) === 0) {
      const { name, payload = null } = lot.pick(jobs)
      work.push([name, payload, options])
      pieces.push({ key, what: name, isJob: true })
    } else {
      const what = lot.pick(Object.keys(urls))
      work.push([{ url: urls[what], body: key }, options])
      pieces.push({ key, what, isJob: false })
    }
  }
  return { pieces, work }
}

const fault = (what: string) => {
  totals.faults++
  byFault.set(what, (byFault.get(what) ?? 0) + 1)
}

const live = async (
  number: number,
  lot: Lot,
  combination: { client: RuntimeClient; companion: CompanionName },
  urls: Record<string, string>,
) => {
  const { client, companion } = combination
  const spool = `${tmpdir()}/post-invoke-soak-${process.pid}-${number}`
  const run = await startRun({
    client,
    companion,
    taskRoot: fileURLToPath(new URL('../test/fixtures/hand-off', import.meta.url)),
    freeze: lot.below(2) === 0,
    timeout: TIMEOUT_MS,
    environment: {
      POST_INVOKE_JOBS: 'jobs.mjs',
      POST_INVOKE_SPOOL: spool,
      POST_INVOKE_HAND_OFF_BUDGET: String(BUDGET_MS),
      POST_INVOKE_LOG_LEVEL: 'DEBUG',
    },
  })
  const all: Piece[] = []
  let deaths = 0
  try {
    const invocations = lot.below(3) === 0 ? 1 : 3 + lot.below(10)
    for (let n = 0; n < invocations; n++) {
      const { pieces, work } = drawPieces(lot, urls, `${process.pid}-${number}-${n}`)
      const ends = lot.pick([
        '',
        '',
        '',
        '',
        'same tick',
        'with the response',
        'after',
        'hangs',
        'kill',
        'kill companion',
      ])
      const event = { ownKeys: true, says: true, work, dies: ends, hangs: ends === 'hangs' }
      const sent = run.sandbox.send(event)
      if (ends !== '') {
        deaths++
        fault(ends)
      }
      if (ends.startsWith('kill')) await killLater(run, lot, sent, ends === 'kill companion')
      const { requestId } = await sent.released
      totals.invocations++
      // A process that was killed at the end of one invocation may not have begun the next.
      if (run.marks(requestId).every(({ what }) => what !== 'handed off')) continue
      all.push(...pieces)
      totals.pieces += pieces.length
      for (const { what } of pieces) if (!HARMLESS.includes(what)) fault(what)
    }
    await drain(run, spool, number)
    await run.sandbox.shutdown()
    totals.environments++
    const resets = run.sandbox.events.filter(({ type }) => type === 'reset').length
    totals.resets += resets
    totals.deaths += deaths
    enter(run, spool, all, resets + deaths, `life ${number}, ${client.name}, ${companion}`)
  } finally {
    await run.sandbox[Symbol.asyncDispose]()
    rmSync(spool, { recursive: true, force: true })
  }
}

/** A process of the environment, somewhere between the answer and a while later. */
const killLater = async (run: Run, lot: Lot, sent: ReturnType<Run['sandbox']['send']>, isCompanion: boolean) => {
  await sent.answered
  const delay = lot.below(300)
  await Promise.race([sent.released, new Promise(resolve => setTimeout(resolve, delay))])
  const [extension] = Object.values(run.sandbox.extensionPids)
  const pid = isCompanion ? (extension ?? run.sandbox.runtimePid) : run.sandbox.runtimePid
  try {
    if (pid !== undefined) process.kill(pid, 'SIGKILL')
  } catch {}
}

const waitingIn = (spool: string): string[] => {
  try {
    return readdirSync(spool).filter(name => /^\d/.test(name))
  } catch {
    return []
  }
}

/** Invokes until nothing waits, and notes an environment that does not come to answer again. */
const drain = async (run: Run, spool: string, number: number) => {
  const end = performance.now() + DRAIN_MS
  let failures = 0
  let most = 0
  do {
    const report = await run.invoke({})
    totals.invocations++
    failures = report.status === 'success' ? 0 : failures + 1
    most = Math.max(most, failures)
    await new Promise(resolve => setTimeout(resolve, 100))
  } while (waitingIn(spool).length > 0 && performance.now() < end)
  if (failures > 0 && (await run.invoke({})).status !== 'success') {
    totals.loops++
    problems.push(`life ${number}: ${most} invocations in a row failed, the last one too`)
  }
}

const enter = (run: Run, spool: string, pieces: readonly Piece[], deaths: number, where: string) => {
  const logs = run.sandbox.logs.map(({ text }) => text)
  const own = logs.filter(text => text.includes('middy-post-invoke: '))
  const marked = new Map<string, number>()
  for (const { what, name = '' } of run.marks()) if (what === 'job') marked.set(name, (marked.get(name) ?? 0) + 1)
  const onDisk = new Set(waitingIn(spool).map(name => String(JSON.parse(readFileSync(`${spool}/${name}`, 'utf8')).key)))
  for (const { key, what, isJob } of pieces) {
    const lines = own.filter(text => text.includes(`"${key}"`))
    const times = (isJob ? marked.get(key) : answered.get(key)) ?? 0
    answered.delete(key)
    const isDone = times > 0 || lines.some(text => text.includes('done: '))
    if (isDone) totals.done++
    else if (lines.some(text => text.includes(' failed:'))) totals.givenUp++
    else if (lines.some(text => text.includes('the environment ends before'))) totals.lostByName++
    else if (onDisk.has(key)) totals.waiting++
    else {
      totals.missing++
      problems.push(`${where}: ${what} ${key} is missing\n${lines.join('\n')}`)
    }
    if (times <= 1) continue
    totals.twice++
    if (deaths > 0 || lines.some(text => text.includes('time was up'))) continue
    totals.unexplained++
    problems.push(`${where}: ${what} ${key} was done ${times} times\n${lines.join('\n')}`)
  }
}

const main = async () => {
  const wanted = Number(values.faults)
  const endAt = performance.now() + Number(values.minutes) * 60_000
  const seed = values.seed === undefined ? randomInt(2 ** 31) : Number(values.seed)
  const urls = await startReceivers()
  const combinations = runtimeClients
    .filter(({ kind }) => kind !== 'built-in' && (values.client === undefined || kind === values.client))
    .flatMap(client =>
      (['layer', 'internal', 'gate'] as const)
        .filter(companion => values.companion === undefined || companion === values.companion)
        .flatMap(companion => (companion === 'gate' && client.kind === 'ric3' ? [] : { client, companion })),
    )
  const startedAt = performance.now()
  let number = 0
  let sayAt = startedAt + 60_000
  const worker = async () => {
    while (totals.faults < wanted && performance.now() < endAt) {
      const own = number++
      await live(own, createLot(seed + own * 7_919), combinations[own % combinations.length] as never, urls)
      if (performance.now() < sayAt) continue
      sayAt += 60_000
      console.error(`… ${totals.faults} faults, ${totals.pieces} pieces, ${problems.length} problems`)
    }
  }
  await Promise.all(Array.from({ length: SIDE_BY_SIDE }, worker))
  for (const problem of problems.slice(0, 20)) console.error(`PROBLEM ${problem}`)
  const { environments, invocations, pieces, faults, deaths, resets, missing, twice, unexplained, loops } = totals
  console.log(
    [
      `seed ${seed}: ${environments} environments, ${invocations} invocations, ${faults} faults (${[...byFault].map(([name, count]) => `${name} ${count}`).join(', ')})`,
      `${deaths} processes killed or hanging on purpose, ${resets} resets`,
      `${pieces} pieces: ${totals.done} done, ${totals.givenUp} given up and named, ${totals.lostByName} named at the environment's end, ${totals.waiting} on disk within their bounds, ${missing} missing`,
      `${twice} done more than once, ${unexplained} of them without a death or an end of time; ${loops} environments in a crash loop`,
      `${((performance.now() - startedAt) / 1_000).toFixed(0)} s`,
    ].join('; '),
  )
  process.exit(missing + unexplained + loops === 0 ? 0 : 1)
}

await main()
