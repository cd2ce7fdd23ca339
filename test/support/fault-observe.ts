// Injects one fault into one environment and puts into words what came of it: for the caller, for the deferred tasks, in
// the log, and for the invocation after it.
import { fileURLToPath } from 'node:url'
import type { InvocationReport, SentInvocation } from '../../src/sandbox/types.ts'
import { childrenOf } from './processes.ts'
import { type CompanionName, isAlive, type Run, startRun } from './run.ts'
import type { RuntimeClient } from './runtime-clients.ts'

export type Combination = { readonly client: RuntimeClient; readonly companion: CompanionName }

type StartOptions = Parameters<typeof startRun>[0]

/** What an environment is started with; `command` goes around that of the runtime client. */
export type Start = Partial<Pick<StartOptions, 'timeout' | 'patience' | 'freeze' | 'layers' | 'environment'>> & {
  command?: (argv: readonly string[]) => readonly string[]
}

export type Entry = { readonly kind: string; readonly name: string; readonly on?: string; readonly ms?: number }

export type FaultEvent = {
  readonly tasks?: readonly Entry[]
  /** What the handler itself does: a key of `deeds` in the fixture. */
  readonly does?: string
  readonly ms?: number
}

export type Given = Combination & {
  /** Whether this is the control: the same handler without the package. */
  readonly isControl: boolean
  /** Undone when the row is over. */
  readonly cleanUp: AsyncDisposableStack
}

export type Fault = {
  /** What is injected, as the table says it. With its combination it names the row. */
  readonly injected: string
  readonly on: readonly Combination[]
  /** Where this machine does not allow it. Its rows stay as they are in the page. */
  readonly isSkipped?: boolean
  /** In an environment with others that leave it as it was. Not for faults that are warned of once. */
  readonly isShared?: boolean
  readonly start?: (given: Given) => Start | Promise<Start>
  readonly event?: FaultEvent
  /** That of the invocation. By default it is a UUID, as Lambda's are. */
  readonly requestId?: string
  /** After init, before the invocation. */
  readonly before?: (run: Run, given: Given) => unknown
  /** While the invocation runs. */
  readonly during?: (run: Run, sent: SentInvocation, given: Given) => unknown
  /** Before the next invocation. */
  readonly after?: (run: Run, given: Given) => unknown
  readonly next?: FaultEvent
  /** Once before everything, so that all connections are there. */
  readonly isWarm?: boolean
  /** It costs one hold that only ends at its cap, in each environment, and that is known. */
  readonly isHeldOnce?: boolean
  /** The same without the package, for faults that disturb Lambda itself. */
  readonly hasControl?: boolean
}

/** What must not be, unless the control shows it too. */
export type Harm = 'another answer' | 'a disturbed environment' | 'a silent loss'

export type Sight = {
  readonly caller: string
  readonly tasks: string
  /** The same in a word, for controls: which of them a freeze catches is a matter of chance. */
  readonly tasksInShort: 'lost' | 'not waited for' | 'none'
  readonly logged: string
  readonly next: string
  readonly isNextDisturbed: boolean
  readonly outcome: 'unharmed' | 'late' | 'unheld' | 'lost, named'
  readonly harms: readonly Harm[]
}

/** Longer than anything here takes, and an end to what hangs. */
const TIMEOUT_MS = 10_000

/** What is said and done at the deadline comes late on a busy machine: the sandbox ends things only so much later. */
const PATIENCE_MS = 1_500

/** How long log lines of a process may be on their way. Only what is lost in silence waits for it. */
const SETTLE_MS = 3_000
const CONTROL_SETTLE_MS = 200

/** A hold that is this close to the function's timeout, and in which nothing has gone on for so long, has ended by its cap. */
const CAP_MS = 150
const IDLE_MS = 500

/** Longer than the tasks of an invocation take here. */
const LONG_MS = 500

/** An extension of somebody else, for controls of what is done to the layer's. */
export const otherLayer = fileURLToPath(new URL('../fixtures/sandbox/layers/bash', import.meta.url))

/** The companion's process: of an internal extension, a child of the function's. */
export const companionPid = ({ sandbox }: Run): number => {
  const pid = Object.values(sandbox.extensionPids)[0] ?? childrenOf(sandbox.runtimePid ?? 0)[0]
  if (pid !== undefined) return pid
  throw new Error('no companion is running')
}

export const observe = async (fault: Fault, combination: Combination, isControl: boolean): Promise<Sight> => {
  await using cleanUp = new AsyncDisposableStack()
  const given: Given = { ...combination, isControl, cleanUp }
  const run = await start(fault, given)
  if (!('sandbox' in run)) return describeFailedInit(run)
  const { sandbox } = run
  if (fault.isWarm) await sandbox.invoke({})
  await fault.before?.(run, given)

  const firstLine = fault.isShared ? sandbox.logs.length : 0
  const event = fault.event ?? { tasks: [{ kind: 'sleep', name: 'task' }] }
  const sent = sandbox.send(event, fault.requestId === undefined ? {} : { requestId: fault.requestId })
  await fault.during?.(run, sent, given)
  const report = await sent.released
  await fault.after?.(run, given)

  const inits = () => sandbox.events.filter(({ type }) => type === 'init-ended').length
  const initsBefore = inits()
  const nextEvent = fault.next ?? (isControl ? {} : { tasks: [{ kind: 'sleep', name: 'next', ms: 20 }] })
  const nextReport = await sandbox.invoke(nextEvent)

  const lines = () => sandbox.logs.slice(firstLine).map(({ text }) => text)
  const fates = () => fatesOf(run, report, event, lines())
  const nextFates = () => fatesOf(run, nextReport, nextEvent, lines())
  const areTold = () => [...fates().values(), ...nextFates().values()].every(fate => fate !== 'lost')
  if (!isControl && inits() === initsBefore && !areTold()) {
    // What was frozen goes on in later invocations.
    for (let count = 0; count < 2; count++) await sandbox.invoke({ does: 'sleep', ms: LONG_MS })
  }
  await withinTime(areTold, isControl ? CONTROL_SETTLE_MS : SETTLE_MS)

  const caller = describeCaller(report, event, [...fates().values()])
  const isFresh = inits() > initsBefore
  const next = describeNext(run, combination, nextReport, report.requestId, [...nextFates().values()], isFresh)
  const all = [...fates().values()]
  const harms = new Set<Harm>()
  if (caller.isChanged) harms.add('another answer')
  // What is only released by the cap at the deadline hangs until then.
  const isCapped = isHeldToTheCap(run, report.requestId)
  const isNextCapped = isHeldToTheCap(run, nextReport.requestId)
  if (report.timedOut || isCapped || isNextCapped || next.isDisturbed) harms.add('a disturbed environment')
  if (all.some(fate => fate === 'lost' || fate === 'ran twice')) harms.add('a silent loss')
  return {
    caller: caller.words,
    tasks: describeTasks(fates()),
    tasksInShort: inShort(all),
    logged: describeLog(lines(), report),
    next: next.words,
    isNextDisturbed: next.isDisturbed || isNextCapped,
    outcome: outcomeOf([...all, ...nextFates().values()]),
    harms: [...harms],
  }
}

const fixtures = fileURLToPath(new URL('../fixtures/faults', import.meta.url))

type Started = Run & { readonly timeout: number }

const shared = new Map<string, Promise<Started>>()

/** Ends the environments that faults have shared. */
export const endShared = async (): Promise<void> => {
  const runs = [...shared.values()]
  shared.clear()
  for (const run of runs) await (await run).sandbox[Symbol.asyncDispose]()
}

const start = async (fault: Fault, given: Given): Promise<Started | { readonly initError: string }> => {
  const { client, companion, isControl, cleanUp } = given
  const { command, ...options } = (await fault.start?.(given)) ?? {}
  const { timeout = TIMEOUT_MS } = options
  const begin = async () => {
    const run = await startRun({
      client: inFixtures(client, command),
      ...(!isControl && { companion }),
      freeze: true,
      patience: PATIENCE_MS,
      ...options,
      timeout,
      environment: { ...(isControl && { FAULTS_WITHOUT: '1' }), ...options.environment },
    })
    return { ...run, timeout }
  }
  if (fault.isShared && !isControl) {
    const key = `${client.name}, ${companion}`
    const found = shared.get(key) ?? begin()
    shared.set(key, found)
    return found
  }
  try {
    const run = await begin()
    cleanUp.defer(() => run.sandbox[Symbol.asyncDispose]())
    return run
  } catch (error) {
    if ((error as { code?: string }).code !== 'INIT_FAILED') throw error
    return { initError: (error as Error).message }
  }
}

/** The client, with its command inside another one and the handlers of the faults. */
const inFixtures = (client: RuntimeClient, command: Start['command']): RuntimeClient => ({
  ...client,
  options: handler => {
    const options = client.options(handler)
    const { runtimeClient } = options
    const argv = command && Array.isArray(runtimeClient) ? command(runtimeClient) : runtimeClient
    const all = { ...options, ...(argv && { runtimeClient: argv }), taskRoot: fixtures }
    return all
  },
})

const UNSTARTED = "could not start before the function's deadline"
const UNSTARTED_AT_SHUTDOWN = 'could not start before the environment ended'

type Fate =
  | 'ran'
  | 'ran before the answer'
  | 'ran after the release'
  | 'ran when the environment ended'
  | 'ran in the next invocation'
  | 'ran twice'
  | 'failed'
  | 'lost, named'
  | 'lost'

const fatesOf = (
  run: Run,
  { requestId, timedOut }: InvocationReport,
  { tasks = [] }: FaultEvent,
  lines: string[],
): Map<string, Fate> => {
  const marks = run.marks(requestId)
  const has = (text: string, name: string) => lines.some(line => line.includes(text) && line.includes(`"${name}"`))
  const released = timedOut ? 'timeout' : 'released'
  const fateOf = ({ name }: Entry): Fate => {
    const ends = marks.filter(mark => mark.what === 'end' && mark.name === name)
    const [end] = ends
    if (ends.length > 1) return 'ran twice'
    if (end) {
      if (has(`of request ${requestId} ${UNSTARTED}, and are carried over`, name)) return 'ran in the next invocation'
      const start = marks.find(mark => mark.what === 'start' && mark.name === name) as { t: number }
      if (start.t < run.time('response', requestId)) return 'ran before the answer'
      if (!happened(run, released, requestId) || end.t < run.time(released, requestId)) return 'ran'
      return timedOut ? 'ran when the environment ended' : 'ran after the release'
    }
    if (has(`of request ${requestId} failed`, name)) return 'failed'
    if ([UNSTARTED, UNSTARTED_AT_SHUTDOWN].some(text => has(`of request ${requestId} ${text}:`, name))) return 'failed'
    // Whatever a line says of a request whose tasks are unfinished, it names them.
    if (has(`request ${requestId}`, name)) return 'lost, named'
    return 'lost'
  }
  return new Map(tasks.toReversed().map(task => [task.name, fateOf(task)]))
}

/** Also where nothing was known to be unfinished, and so nothing is logged. */
const isHeldToTheCap = (run: Started, requestId: string): boolean => {
  if (run.logged('although it has not settled', requestId).length > 0) return true
  if (!happened(run, 'released', requestId) || !happened(run, 'response', requestId)) return false
  const released = run.time('released', requestId)
  const marks = run.marks(requestId)
  const count = (kind: string) => marks.filter(({ what }) => what === kind).length
  if (count('start') > count('end')) return false // a task went on
  const last = Math.max(run.time('response', requestId), ...marks.map(({ t }) => t))
  return released - run.time('invoke', requestId) > run.timeout - CAP_MS && released - last > IDLE_MS
}

const happened = (run: Run, type: 'response' | 'released' | 'timeout', requestId: string) =>
  run.sandbox.events.some(event => event.type === type && event.requestId === requestId)

const describeTasks = (fates: Map<string, Fate>): string => {
  const names = Map.groupBy(fates.keys(), name => fates.get(name) as Fate)
  const words = [...names].map(([fate, all]) => `${all.map(name => `\`${name}\``).join(', ')} ${fate}`)
  return words.join('; ') || 'none'
}

const inShort = (fates: Fate[]): Sight['tasksInShort'] => {
  if (fates.length === 0) return 'none'
  return fates.includes('lost') ? 'lost' : 'not waited for'
}

const describeCaller = (report: InvocationReport, { does }: FaultEvent, fates: Fate[]) => {
  const { kind, requestId, timedOut, errorType } = report
  const isOwn =
    does === 'throws'
      ? kind === 'error' && report.body().errorMessage === 'handler threw'
      : kind === 'response' && report.body().ok === true && report.body().id === requestId
  if (!isOwn) return { words: errorType === 'Sandbox.Timedout' ? 'a timeout' : `\`${errorType}\``, isChanged: true }
  const own = does === 'throws' ? "the handler's error" : 'its answer'
  const words = fates.includes('ran before the answer') ? `${own}, once the tasks had run` : own
  return { words: timedOut ? `${words}; then the function timed out` : words, isChanged: false }
}

const UNCAUGHT = ['Error', 'Runtime.UnhandledPromiseRejection', 'Runtime.ExitError']

const describeNext = (
  run: Run,
  { client }: Combination,
  report: InvocationReport,
  before: string,
  fates: Fate[],
  isFresh: boolean,
) => {
  const where = isFresh ? 'in a fresh environment' : 'in the same environment'
  // Without its internal extension a process ends itself once it has answered: Lambda would wait for that one for ever.
  const isAnswered = report.kind === 'response' && report.body().id === report.requestId
  if (report.status === 'crash' && isAnswered && !fates.includes('lost')) {
    const late = fates.includes('ran before the answer') ? ', its task before the answer' : ''
    return { words: `undisturbed, ${where}${late}, whose process then ends`, isDisturbed: false }
  }
  if (report.status !== 'success' || !isAnswered) {
    if (report.timedOut) return { words: 'times out', isDisturbed: true }
    const error = report.errorType ?? String(report.status)
    // RIC 3 posts an uncaught error on a connection that is in use, and may be gone before it has.
    const isByChance = client.kind === 'ric3' && UNCAUGHT.includes(error)
    const words = isByChance ? 'the uncaught error, or `Runtime.ExitError`' : `\`${error}\``
    return { words: `fails: ${words}`, isDisturbed: true }
  }
  if (fates.includes('lost') || fates.includes('ran twice')) return { words: 'loses its task', isDisturbed: true }
  // What burns CPU in the time of the next invocation keeps that one waiting.
  const begins = run.time('invoke', report.requestId)
  const waits = run.marks(before).some(({ what, name, t }) => what === 'end' && name === 'burns' && t > begins)
  if (waits) return { words: `waits, ${where}`, isDisturbed: true }
  const late = fates.includes('ran before the answer') ? ', its task before the answer' : ''
  const unheld = fates.includes('ran after the release') ? ', its task unheld' : ''
  return { words: `undisturbed, ${where}${late}${unheld}`, isDisturbed: false }
}

const outcomeOf = (fates: Fate[]): Sight['outcome'] => {
  if (fates.includes('lost, named')) return 'lost, named'
  if (fates.includes('ran after the release')) return 'unheld'
  return fates.includes('ran before the answer') ? 'late' : 'unharmed'
}

/** Of each line of the package, the essential words. A line that is not here has no place in the table. */
const ESSENTIAL: readonly (readonly [RegExp, string])[] = [
  [/task ".*" of request \S+ failed/, 'task … of request … failed'],
  [/tasks of request \S+ could not start .*carried over/, 'tasks of request … could not start …, and are carried over'],
  [/tasks of request \S+ could not start before [a-z' ]+:/, 'tasks of request … could not start …'],
  [
    /an uncaught error is about to end the process in the middle of request/,
    'an uncaught error is about to end the process in the middle of request …; unfinished: …',
  ],
  [/the process ends in the middle of request/, 'the process ends in the middle of request …; unfinished: …'],
  [
    /the function is about to time out in the middle/,
    'the function is about to time out in the middle of request …; unfinished: …',
  ],
  [/the environment ends in the middle of request/, 'the environment ends in the middle of request …; unfinished: …'],
  [/the function's process ended in the middle of/, "the function's process ended in the middle of request …"],
  [/released request \S+ before its deadline/, 'released request … before its deadline'],
  [/WARN_NOT_REGISTERED, no internal/, 'WARN_NOT_REGISTERED, no internal extension could be registered (…)'],
  [/WARN_NO_LAYER, the layer's companion/, "WARN_NO_LAYER, the layer's companion cannot be reached (…)"],
  [/WARN_LAYER_VERSION, the layer speaks/, 'WARN_LAYER_VERSION, the layer speaks protocol …'],
  [/WARN_LAYER_GONE, /, "WARN_LAYER_GONE, the layer's companion is gone"],
  [
    /WARN_INTERNAL_GONE, /,
    'WARN_INTERNAL_GONE, the internal extension is gone: this process ends after its next answer',
  ],
  [/WARN_LAST_WORDS, /, 'WARN_LAST_WORDS, last words cannot be written (…)'],
  [/WARN_TWO_VERSIONS, /, 'WARN_TWO_VERSIONS, version … in the same process uses the companion, not …'],
  [/WARN_WORKER_THREAD, /, 'WARN_WORKER_THREAD, a worker thread has no companion'],
  [/WARN_NO_SIGTERM, /, 'WARN_NO_SIGTERM, no SIGTERM will come (…)'],
  [/The next event cannot be had/, 'The next event cannot be had (…), asking again'],
  [/WARN_GATE, this invocation runs outside/, 'WARN_GATE, this invocation runs outside InvokeStore.run, …'],
  [/WARN_GATE, the runtime client does not wait/, 'WARN_GATE, the runtime client does not wait for InvokeStore.run, …'],
  [/the companion cannot register as an extension/, 'the companion cannot register as an extension: …'],
  [/no FIFO can be made at/, 'no FIFO can be made at …: nothing is held'],
]

const describeLog = (lines: string[], report?: Pick<InvocationReport, 'status'>): string => {
  const own = lines.filter(line => line.includes('middy-post-invoke: '))
  const unknown = own.filter(line => !ESSENTIAL.some(([pattern]) => pattern.test(line)))
  const said = ESSENTIAL.filter(([pattern]) => own.some(line => pattern.test(line))).map(([, words]) => words)
  // After the first of these, on RIC 3, the process may be gone before it can say the second.
  const repeated = said.findIndex(words => words.startsWith('the process ends'))
  if (repeated > 0 && said.some(words => words.startsWith('an uncaught error'))) said.splice(repeated, 1)
  const words = [...said, ...unknown].map(line => `\`${line}\``)
  if (report?.status === 'crash') words.push("Lambda's own report of the crash")
  if (report?.status === 'timeout') words.push("Lambda's own report of the timeout")
  return words.join('; ') || 'nothing'
}

const describeFailedInit = ({ initError }: { initError: string }): Sight => {
  const errorType = /^Init failed: ([\w.]+)/.exec(initError)?.[1]
  return {
    caller: `Init fails: \`${errorType}\``,
    tasks: 'none',
    tasksInShort: 'none',
    logged: describeLog(initError.split('\n')),
    next: `Init fails: \`${errorType}\``,
    isNextDisturbed: true,
    outcome: 'unharmed',
    harms: ['another answer', 'a disturbed environment'],
  }
}

const withinTime = async (check: () => boolean, milliseconds = SETTLE_MS): Promise<boolean> => {
  const end = performance.now() + milliseconds
  while (!check()) {
    if (performance.now() > end) return false
    await new Promise(resolve => setTimeout(resolve, 5))
  }
  return true
}

/** Until a process is gone, or is known to stay. */
export const untilGone = (pid: number | undefined): Promise<boolean> =>
  withinTime(() => pid === undefined || !isAlive(pid))

/** Until Lambda has noticed that a process has ended. */
export const untilExited = async ({ sandbox }: Run): Promise<void> => {
  const exits = () => sandbox.events.filter(({ type }) => type === 'process-exited').length
  if (await withinTime(() => exits() > 0, TIMEOUT_MS)) return
  throw new Error('no process has ended')
}

/** Until the package has said so. */
export const untilLogged = async (run: Run, text: string): Promise<void> => {
  if (await withinTime(() => run.logged(text).length > 0, TIMEOUT_MS)) return
  throw new Error(`no log line ${text}`)
}

/** Until a task of a request has said so. */
export const untilMarked = async (run: Run, requestId: string, what: string, name?: string): Promise<void> => {
  const isThere = () => run.marks(requestId).some(mark => mark.what === what && (!name || mark.name === name))
  if (await withinTime(isThere, TIMEOUT_MS)) return
  throw new Error(`no mark ${what} ${name} of request ${requestId}`)
}
