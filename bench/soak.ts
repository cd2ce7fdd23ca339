// Runs a random mixture of tasks and faults for as long as it is told to, in many environments one after the other, and
// keeps the books: every invocation answered, every task run or reported, nothing lost in silence. One line says the
// result; it fails when something is missing, lost or hangs. See soak/settings.ts for what can be asked for.
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { createSandbox, type InvocationReport, type Sandbox } from 'middy-post-invoke/sandbox'
import { childOf } from './processes.ts'
import { enterTasks, type InvocationResult, isClean, newTotals, type Totals } from './soak/books.ts'
import { createSlope, residentBytes, type Slope } from './soak/memory.ts'
import { writeSoakRow } from './soak/page.ts'
import {
  createLot,
  type InvocationPlan,
  type Life,
  type Lot,
  planInvocation,
  planLife,
  TIMEOUT_MS,
} from './soak/plan.ts'
import { type Combination, commandOf, readSettings } from './soak/settings.ts'

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))

/** An invocation that has not ended so long after the function's timeout never will. */
const HANG_MS = 15_000
const MEMORY_EVERY = 50
const MOST_PROBLEMS = 20
const PROGRESS_MS = 60_000

const settings = readSettings(process.argv.slice(2))

type Soak = {
  readonly combination: Combination
  readonly totals: Totals
  readonly slopes: Readonly<Record<'heap' | 'process' | 'companion', Slope>>
  problem(life: Life, text: string): void
}

const run = async (combination: Combination): Promise<boolean> => {
  const { client, companion } = combination
  const name = `${client.kind}, ${companion}${settings.freeze ? ', frozen' : ''}${settings.faults ? ', faults' : ''}`
  const startedAt = performance.now()
  let problems = 0
  const soak: Soak = {
    combination,
    totals: newTotals(),
    slopes: { heap: createSlope(), process: createSlope(), companion: createSlope() },
    problem(life, text) {
      if (++problems <= MOST_PROBLEMS) console.error(`PROBLEM, life ${life.number}: ${text}`)
    },
  }
  const { totals, slopes } = soak

  let progressAt = startedAt + PROGRESS_MS
  for (let number = 0; totals.invocations < settings.invocations; number++) {
    // Each life has a lot of its own: what is drawn in one does not depend on what happened in those before.
    const lot = createLot(settings.seed + number * 7_919)
    const left = settings.invocations - totals.invocations
    await live(soak, planLife(lot, number, left, settings.invocations, settings.faults), lot)
    if (performance.now() > progressAt) {
      progressAt += PROGRESS_MS
      console.error(`… ${name}: ${totals.invocations} invocations, ${problems} problems`)
    }
  }

  const { invocations, answers, missing, deferred, run, reported, skipped, lost, hangs, resets } = totals
  const seconds = (performance.now() - startedAt) / 1000
  console.log(
    [
      `${name}, seed ${settings.seed}: ${invocations} invocations, ${answers} answers, ${missing} answers missing`,
      `${deferred} tasks deferred, ${run} run, ${reported} not run to the end but reported, ${skipped} skipped (not for the outcome), ${lost} lost in silence (${totals.lostInFailed} of them in invocations that failed as a whole)`,
      `${totals.unnamedWithGate} unnamed, of processes killed by SIGKILL with the gate`,
      `${totals.runTwice} run twice, ${totals.unreportedFailures} failures not logged once, ${totals.hooksMissing} hooks missing, ${totals.faultsOfOurs} faults of ours`,
      `${hangs} hangs, ${resets} resets, ${totals.unplannedEnds} of them unplanned`,
      `memory an invocation: heap ${slopes.heap.text}, process ${slopes.process.text}${companion === 'gate' ? '' : `, companion ${slopes.companion.text}`}`,
      `${seconds.toFixed(1)} s`,
    ].join('; '),
  )
  if (settings.write) {
    const texts = { heap: slopes.heap.text, process: slopes.process.text, companion: slopes.companion.text }
    writeSoakRow(
      { client, companion, totals, slopes: texts, seed: settings.seed },
      settings.faults,
      commandOf(settings),
    )
  }
  return isClean(totals)
}

/** One function, from its first environment to its shutdown. */
const live = async (soak: Soak, life: Life, lot: Lot): Promise<void> => {
  const { combination, totals, problem } = soak
  const sandbox = await start(combination, life)
  try {
    const hangs = totals.hangs
    const results = await invokeAll(soak, life, lot, sandbox)
    const hasHung = totals.hangs > hangs
    for (const slope of Object.values(soak.slopes)) slope.end()

    const lastPid = sandbox.runtimePid
    if (!hasHung) await sandbox.shutdown()
    const isDue = life.hooks && lastPid !== undefined && !hasHung
    if (isDue && !sandbox.logs.some(({ text }) => text === `SOAK hook ${lastPid}`)) {
      totals.hooksMissing++
      problem(life, `the shutdown hook has not run\n${tail(sandbox)}`)
    }
    totals.resets += sandbox.events.filter(({ type }) => type === 'reset').length
    enterTasks(totals, combination, results, sandbox.logs, text => problem(life, text))
  } finally {
    await sandbox[Symbol.asyncDispose]()
  }
}

const invokeAll = async (soak: Soak, life: Life, lot: Lot, sandbox: Sandbox): Promise<InvocationResult[]> => {
  const { combination, totals, slopes } = soak
  const problem = (text: string) => soak.problem(life, `${text}\n${tail(sandbox)}`)
  const results: InvocationResult[] = []
  let pid: number | undefined
  let sinceStart = 0

  for (let n = 0; n < life.invocations; n++) {
    const plan = planInvocation(lot, combination, life, n)
    if (life.calm && n % MEMORY_EVERY === 0) plan.event.memory = true
    const requestId = `${life.number}-${n}`
    const report = await invoke(sandbox, plan, requestId)
    totals.invocations++
    results.push({ plan, requestId, failed: report?.kind !== 'response' })
    const planned = JSON.stringify(plan)
    if (!report) {
      totals.hangs++
      problem(`${requestId} hangs: ${planned}`)
      break
    }
    if (isExpected(report, plan, life)) {
      totals.answers++
    } else {
      totals.missing++
      const { kind, status, errorType, payload } = report
      problem(
        `${requestId} was answered with ${JSON.stringify({ kind, status, errorType, payload: payload.slice(-200) })}: ${planned}`,
      )
    }
    if (!plan.isFatal && (report.timedOut || report.status === 'crash')) {
      totals.unplannedEnds++
      problem(`${requestId} ended with ${report.status}: ${planned}`)
    }

    sinceStart = sandbox.runtimePid === pid ? sinceStart + 1 : 0
    pid = sandbox.runtimePid
    if (!plan.event.memory) continue
    slopes.heap.sample(sinceStart, heapOf(sandbox))
    slopes.process.sample(sinceStart, residentBytes(pid))
    slopes.companion.sample(sinceStart, residentBytes(companionPid(sandbox)))
  }
  return results
}

const start = ({ client, companion }: Combination, life: Life) =>
  createSandbox({
    taskRoot: path('soak/function'),
    ...client.options(life.streamed ? 'streamed.handler' : 'buffered.handler'),
    layers: companion === 'layer' ? [path('../dist/layer')] : [],
    timeout: TIMEOUT_MS,
    freeze: settings.freeze,
    environment: {
      POST_INVOKE_COMPANION: companion === 'gate' ? 'embedded' : companion,
      SOAK_HOOKS: life.hooks ? '1' : '',
      SOAK_ORDER: life.order,
      SOAK_CONCURRENCY: String(life.concurrency),
    },
  })

/** Invokes, and kills where that is planned. */
const invoke = async (
  sandbox: Sandbox,
  { event, kill }: InvocationPlan,
  requestId: string,
): Promise<InvocationReport | undefined> => {
  const end = performance.now() + TIMEOUT_MS + HANG_MS
  const victim = () => (kill?.process === 'function' ? sandbox.runtimePid : companionPid(sandbox))
  const killVictim = async () => {
    const pid = victim()
    if (pid === undefined) return
    process.kill(pid, 'SIGKILL')
    // Not before that is noticed: an invocation that comes meanwhile would be given to the dead.
    while (victim() === pid && performance.now() < end) await sleep(1)
  }
  if (kill?.at === 'idle') await killVictim()
  const firstLine = sandbox.logs.length
  let isOver = false
  const released = sandbox.send(event, { requestId }).released.finally(() => {
    isOver = true
  })
  if (kill && kill.at !== 'idle') {
    if ('milliseconds' in kill.at) {
      await sleep(kill.at.milliseconds)
    } else {
      const line = `SOAK ${kill.at.step} ${kill.at.name}`
      let next = firstLine
      const isSaid = () => {
        while (next < sandbox.logs.length) if (sandbox.logs[next++]?.text === line) return true
        return false
      }
      while (!isOver && !isSaid() && performance.now() < end) await sleep(1)
    }
    if (!isOver) await killVictim()
  }
  const limit = new AbortController()
  try {
    return await Promise.race([released, sleep(end - performance.now(), undefined, { signal: limit.signal })])
  } finally {
    limit.abort()
  }
}

/** The layer's, or that of the internal extension, which the function's process has started. */
const companionPid = ({ extensionPids, runtimePid }: Sandbox): number | undefined => {
  try {
    return extensionPids['post-invoke'] ?? (runtimePid === undefined ? undefined : childOf(runtimePid))
  } catch {
    return undefined // it has just ended
  }
}

const isExpected = (report: InvocationReport, { event, answer }: InvocationPlan, { streamed }: Life): boolean => {
  if (report.kind === 'error') return answer !== 'response'
  if (answer === 'error') return false
  if (streamed) return report.payload.endsWith(`${bodyOf(event)}end of ${event.n}`)
  return report.payload === JSON.stringify(event.early ? { early: event.n } : { n: event.n })
}

const bodyOf = ({ chunks = 0, chunkLength = 0 }: InvocationPlan['event']) =>
  Array.from({ length: chunks }, (_, chunk) => String(chunk % 10).repeat(chunkLength)).join('')

const heapOf = ({ logs }: Sandbox): number | undefined => {
  const line = logs.findLast(({ text }) => text.startsWith('SOAK heap '))
  return line && Number(line.text.slice('SOAK heap '.length))
}

const tail = ({ logs, events }: Sandbox) =>
  [
    ...events.slice(-15).map(({ at, ...event }) => ({ at, text: JSON.stringify(event) })),
    ...logs.slice(-30).map(({ at, source, text }) => ({ at, text: `${source}: ${text}` })),
  ]
    .sort((one, other) => one.at - other.at)
    .map(({ at, text }) => `    ${at.toFixed(1)} ${text}`)
    .join('\n')

console.log(`seed ${settings.seed}`)
let isGood = true
for (const combination of settings.combinations) isGood = (await run(combination)) && isGood
if (!isGood) process.exitCode = 1
