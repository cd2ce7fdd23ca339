// The books of a soak: what was deferred, and what became of each task, as the log lines tell.
import type { LogLine } from 'middy-post-invoke/sandbox'
import type { InvocationPlan, TaskPlan } from './plan.ts'
import type { Combination } from './settings.ts'

export type Totals = {
  invocations: number
  answers: number
  missing: number
  deferred: number
  /** Of these, each task is counted in one: run, else reported, else skipped, and so on. */
  run: number
  reported: number
  /** Not for the outcome. */
  skipped: number
  /** Its process was killed by SIGKILL, and with the gate there is no companion's process that could name it. */
  unnamedWithGate: number
  lost: number
  /** Of these, in invocations that failed as a whole: their caller has an error instead of an answer. */
  lostInFailed: number
  runTwice: number
  /** Tasks that failed in a process that went on, and are not in its log exactly once. */
  unreportedFailures: number
  hangs: number
  resets: number
  /** Environments that ended although nothing was done to them. */
  unplannedEnds: number
  hooksMissing: number
  faultsOfOurs: number
}

export const newTotals = (): Totals => ({
  ...{ invocations: 0, answers: 0, missing: 0, deferred: 0, run: 0, reported: 0, skipped: 0, unnamedWithGate: 0 },
  ...{ lost: 0, lostInFailed: 0, runTwice: 0, unreportedFailures: 0, hangs: 0, resets: 0, unplannedEnds: 0 },
  ...{ hooksMissing: 0, faultsOfOurs: 0 },
})

export const isClean = (totals: Totals): boolean =>
  [
    ...[totals.missing, totals.lost, totals.runTwice, totals.unreportedFailures, totals.hangs],
    ...[totals.unplannedEnds, totals.hooksMissing, totals.faultsOfOurs],
  ].every(count => count === 0)

export type InvocationResult = {
  readonly plan: InvocationPlan
  readonly requestId: string
  /** Whether the caller has an error instead of an answer. */
  readonly failed: boolean
}

/** Enters the tasks of one life, whose environments have all ended. */
export const enterTasks = (
  totals: Totals,
  { companion }: Combination,
  results: readonly InvocationResult[],
  logs: readonly LogLine[],
  problem: (text: string) => void,
): void => {
  const { deferred, ended, failures, named } = readLog(logs)
  const plans = new Map(
    results.flatMap(result =>
      allTasks([...result.plan.event.tasks, ...(result.plan.event.bodyTasks ?? [])]).map(
        task => [task.name, { ...result, task }] as const,
      ),
    ),
  )
  totals.deferred += deferred.length
  for (const name of deferred) {
    const entry = plans.get(name)
    if (!entry) throw new Error(`Expected the task ${name} to be planned`)
    const { plan, requestId, task, failed } = entry
    const ends = ended.get(name) ?? 0
    const key = `${requestId} ${name}`
    if (ends > 1) {
      totals.runTwice++
      problem(`task ${name} of ${requestId} has run ${ends} times`)
    }
    if (ends > 0) {
      totals.run++
      const reports = failures.get(key) ?? 0
      const fails = task.kind === 'throws' || task.kind === 'rejects'
      // A promise runs by itself, also where there is no time left to wait for it.
      const most = fails || plan.isFatal || task.kind === 'promise' ? 1 : 0
      if (reports > most || (fails && reports === 0 && !plan.isFatal)) {
        totals.unreportedFailures++
        problem(`task ${name} (${task.kind}) of ${requestId} has run, and its failure was logged ${reports} times`)
      }
    } else if (named.has(key)) totals.reported++
    else if (task.on !== undefined && task.on !== plan.outcome) totals.skipped++
    else if (isKilled(plan) && companion === 'gate') totals.unnamedWithGate++
    else {
      totals.lost++
      if (failed) totals.lostInFailed++
      problem(`task ${name} (${task.kind}) of ${requestId} is lost in silence: ${JSON.stringify(plan)}`)
    }
  }
  for (const { text } of logs) {
    if (!text.includes('middy-post-invoke: a fault of ours')) continue
    totals.faultsOfOurs++
    problem(text)
  }
}

/** By SIGKILL, also that of Lambda at the end of a function that times out. */
const isKilled = ({ event, kill }: InvocationPlan): boolean =>
  kill?.process === 'function' || event.hangs === true || event.tasks.some(({ kind }) => kind === 'kills-itself')

const allTasks = (tasks: readonly TaskPlan[]): TaskPlan[] =>
  tasks.flatMap(task => [task, ...allTasks(task.inner ?? [])])

const readLog = (logs: readonly LogLine[]) => {
  const deferred: string[] = []
  const ended = new Map<string, number>()
  /** By request and task, how often its failure was logged. */
  const failures = new Map<string, number>()
  /** The same, logged for whatever reason. */
  const named = new Set<string>()
  const count = (counts: Map<string, number>, key: string) => counts.set(key, (counts.get(key) ?? 0) + 1)
  for (const { text } of logs) {
    const [, step, name] = /^SOAK (\w+) (\S+)$/.exec(text) ?? []
    if (step === 'defer' && name) deferred.push(name)
    else if (step === 'end' && name) count(ended, name)
    if (!text.includes('middy-post-invoke: ')) continue
    const [, task, ofRequest, what] = /task "(\S+)" of request (\S+) (failed|could)/.exec(text) ?? []
    if (task !== undefined) {
      if (what === 'failed') count(failures, `${ofRequest} ${task}`)
      named.add(`${ofRequest} ${task}`)
    }
    const [, requestId, names = ''] = /request (\S+?);? .*(?:unfinished|could not start [^:]*): (.*)$/.exec(text) ?? []
    for (const [, unfinished] of names.matchAll(/"(\S+?)"/g)) named.add(`${requestId} ${unfinished}`)
  }
  return { deferred, ended, failures, named }
}
