// What `post-invoke doctor` makes of an invocation in the sandbox, in which a task of its own was deferred.
import { type Check, info, ok, problem, warning } from './checks.ts'
import type { Moment } from './moments.ts'
import { PROBE_TASK } from './probe-name.ts'
import type { Run } from './run.ts'
import { duration } from './terminal.ts'

export type Probe = {
  readonly run: Run
  readonly moments: readonly Moment[]
  /** The function's timeout in seconds. */
  readonly timeout: number
  readonly hasLayer: boolean
  /** Whether the handler itself was run. */
  readonly hasEvent: boolean
  /** The name of the runtime client, for people. */
  readonly runtime: string
}

export const checkProbe = (probe: Probe): readonly Check[] => {
  const { run, moments, runtime } = probe
  const findings = moments.findLast(moment => moment.type === 'probe')
  const loaded = ok('load', `The handler loads, in ${duration(run.init.readyAt ?? 0)}`)
  const client = info('client', `Runtime client: ${runtime}`)
  if (run.versions.length === 0 || run.calledLate) {
    return [
      loaded,
      client,
      problem(
        'middleware',
        run.calledLate
          ? 'postInvoke() or withPostInvoke() was first called inside an invocation: its tasks may run before the response'
          : 'The handler does not use this package: neither postInvoke() nor withPostInvoke() was called while it was loaded',
        "middy().use(postInvoke()): in the handler's module, not in a function that is called later.",
      ),
    ]
  }
  return [
    loaded,
    client,
    ...checkVersions(run.versions),
    ...checkOrder(findings),
    ...checkCompanion(probe),
    ...checkHold(probe, findings?.isFound === true),
    ...checkStream(findings, runtime),
    ...checkLog(moments),
  ]
}

const checkVersions = (versions: readonly string[]): readonly Check[] =>
  versions.length > 1
    ? [
        problem(
          'versions',
          `Two versions of this package are loaded: ${versions.join(', ')}`,
          'npm ls middy-post-invoke says who asks for which.',
        ),
      ]
    : []

const checkOrder = (findings: Extract<Moment, { type: 'probe' }> | undefined): readonly Check[] => {
  if (!findings?.isFound) {
    return [
      info(
        'outermost',
        'Where postInvoke() stands cannot be seen: the handler has no Middy, or is minified',
        'Look at the source.',
      ),
    ]
  }
  const { earlier } = findings
  if (earlier.length === 0) return [ok('outermost', 'postInvoke() is the outermost middleware')]
  return [
    problem(
      'outermost',
      `postInvoke() is not the outermost middleware. Before it: ${earlier.join(', ')}`,
      'Use it first: what answers or fails before it has no defer().',
    ),
  ]
}

const checkCompanion = ({ run: { companion }, hasLayer }: Probe): readonly Check[] => {
  const expected = hasLayer ? ['layer'] : ['gate', 'internal']
  if (companion === undefined) return []
  return [
    expected.includes(companion)
      ? ok('companion', `Companion: ${companion}`)
      : problem(
          'companion',
          `Companion: ${companion}, where it should be ${expected.join(' or ')}`,
          'The lines of the log say why.',
        ),
  ]
}

const checkHold = ({ run, moments, timeout, hasEvent }: Probe, isFound: boolean): readonly Check[] => {
  const [invocation] = run.invocations
  const task = invocation?.tasks.find(({ name }) => name === PROBE_TASK)
  const isUnstarted = moments.some(moment => moment.type === 'task-unstarted' && moment.task.name === PROBE_TASK)
  const failed =
    hasEvent && invocation?.status !== 'success'
      ? [problem('event', `With this event the invocation ends with ${invocation?.status}: ${invocation?.payload}`)]
      : []
  if (!invocation || !task) {
    if (isUnstarted) {
      return [
        ...failed,
        problem(
          'timeout',
          `Time was up before a task could start: the timeout of ${timeout} s is too short for deadlineMargin`,
          "Raise the function's timeout, or lower deadlineMargin.",
        ),
      ]
    }
    if (!isFound && !hasEvent)
      return [info('hold', 'Whether the environment is held was not tried', 'Run the handler with --event.')]
    return [
      ...failed,
      problem(
        'hold',
        'No task could be deferred',
        'A middleware before postInvoke() answers or fails, or the handler that is exported is not the one that uses it.',
      ),
    ]
  }
  const { startedAt, endedAt, status } = task
  if (startedAt < invocation.answeredAt) {
    return [
      ...failed,
      problem(
        'hold',
        'Nothing holds the environment: tasks are awaited before the answer',
        'The lines of the log say why.',
      ),
    ]
  }
  if (status !== 'completed' || endedAt === undefined || endedAt > invocation.releasedAt) {
    return [
      ...failed,
      problem(
        'hold',
        `A task that was deferred did not end while the environment was held (${status ?? 'it was frozen'})`,
        "Raise the function's timeout.",
      ),
    ]
  }
  return [
    ...failed,
    ok(
      'hold',
      `A deferred task ran after the response, from ${duration(startedAt)} to ${duration(endedAt)}, and the environment was held until ${duration(invocation.releasedAt)}`,
    ),
  ]
}

/** The client of nodejs22.x asks for its next event only then, unless the context says otherwise. */
const checkStream = (findings: Extract<Moment, { type: 'probe' }> | undefined, runtime: string): readonly Check[] =>
  findings?.isStreamed && !findings.doesNotWait && runtime.includes('nodejs22.x')
    ? [
        warning(
          'stream',
          'On nodejs22.x the invocation of a streamed answer lasts until the event loop is empty: what a task leaves in it, such as an interval, turns a good answer into a timeout',
          'context.callbackWaitsForEmptyEventLoop = false in the handler.',
        ),
      ]
    : []

/** What this package had to say, in its own words. */
const checkLog = (moments: readonly Moment[]): readonly Check[] =>
  moments
    .filter(moment => moment.type === 'log')
    .filter(({ text }) => text.includes('middy-post-invoke: ') && !text.includes(PROBE_TASK))
    .map(({ text }) =>
      warning(
        'log',
        `Logged: ${text.slice(text.indexOf('middy-post-invoke: '))}`,
        'The page on troubleshooting, in the documentation of this package, explains it.',
      ),
    )
