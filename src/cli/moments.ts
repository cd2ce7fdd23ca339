// Everything that happens while a handler runs in the sandbox, from all its sources, in the order in which it happened.
import type { LogLine, SandboxEvent } from '../sandbox/index.ts'
import { type Finding, readOwnLine } from './log-lines.ts'
import { createObservation, type ObservedMessage } from './observation.ts'
import type { ProbeFindings } from './probe.ts'

/** `at`: milliseconds since the sandbox began. */
export type Moment =
  | SandboxEvent
  | ({ readonly type: 'log' } & LogLine)
  | { readonly type: 'companion'; readonly at: number; readonly kind: string }
  | { readonly type: 'task-started'; readonly at: number; readonly task: TaskFacts }
  | { readonly type: 'task-ended'; readonly at: number; readonly task: TaskFacts; readonly end: End }
  | { readonly type: 'task-unstarted'; readonly at: number; readonly task: TaskFacts; readonly status: string }
  | { readonly type: 'hook-started'; readonly at: number; readonly name: string }
  | { readonly type: 'hook-ended'; readonly at: number; readonly name: string; readonly end: End }
  | {
      readonly type: 'loaded'
      readonly at: number
      readonly versions: readonly string[]
      /** Whether it was seen only once the handler's module had been loaded. */
      readonly isLate: boolean
    }
  | (Finding & { readonly at: number })
  | ({ readonly type: 'probe'; readonly at: number } & ProbeFindings)
  | { readonly type: 'hold-started'; readonly at: number; readonly requestId: string }
  | { readonly type: 'hold-ended'; readonly at: number; readonly requestId: string }

export type TaskFacts = {
  readonly name: string
  readonly requestId: string
  /** The how manieth of its request. */
  readonly index: number
  readonly carried: boolean
}

/** A task without a name is called `task 1` already. */
export const taskTitle = (name: string, quote: (name: string) => string = text => text): string =>
  /^task \d+$/.test(name) ? name : `task ${quote(name)}`

/** `completed`, `failed` or `abandoned`. */
export type End = { readonly status: string; readonly error?: string }

/** So long a moment may take to be told here: lines of a process come later than what it does. */
const SETTLE_MS = 30

/**
 * Takes what the sandbox tells, and hands each moment on in order of time, a little later.
 *
 * @param onMoment - Called with each moment, in order.
 */
export const createMoments = (onMoment: (moment: Moment) => void = () => {}) => {
  const observation = createObservation()
  const waiting: Moment[] = []
  const all: Moment[] = []
  /** Those of `waiting` that were read from a stream, whose time is that of the reading. */
  let written: { readonly line: LogLine; readonly moment: { at: number } }[] = []
  let timer: NodeJS.Timeout | undefined
  /** What the machine's monotonic clock showed when the sandbox began, by the event that came here soonest. */
  let beganAt: number | undefined

  /** When responses had left, as the function's process knows. Here they may be read later than its tasks begin. */
  const leftAt = new Map<string, number>()

  const take = (moment: Moment) => {
    if (moment.type === 'hold-started') leftAt.set(moment.requestId, moment.at)
    waiting.push(moment)
    for (const [index, other] of waiting.entries()) {
      const left = other.type === 'response' ? leftAt.get(other.requestId) : undefined
      if (left !== undefined && left < other.at) waiting[index] = { ...other, at: left } as Moment
    }
    timer ??= setTimeout(settle, SETTLE_MS)
  }

  const takeText = (line: LogLine, text: string) => {
    if (SKIPPED.test(text)) return
    const kind = line.source === 'function' && COMPANION.exec(text)?.[1]
    const findings = readOwnLine(text)
    // A moment of its own says what such a line does, unless the line is JSON, which has the stack too.
    const isTold = findings.some(({ type }) => type === 'handed-off') && !text.startsWith('{')
    const moments: Moment[] = [
      ...findings.map(finding => ({ ...finding, at: line.at })),
      ...(kind
        ? [{ type: 'companion', at: line.at, kind } as const]
        : isTold
          ? []
          : [{ type: 'log', ...line, text } as const]),
    ]
    for (const moment of moments) {
      written.push({ line, moment })
      take(moment)
    }
  }

  const handOn = (count: number) => {
    const told = waiting.splice(0, count)
    written = written.filter(({ moment }) => !told.includes(moment as Moment))
    for (const moment of told) {
      all.push(moment)
      onMoment(moment)
    }
  }

  const settle = () => {
    timer = undefined
    waiting.sort((one, other) => one.at - other.at)
    const until = monotonic() - (beganAt ?? 0) - SETTLE_MS
    handOn(waiting.filter(({ at }) => at <= until).length)
    if (waiting.length > 0) timer = setTimeout(settle, SETTLE_MS)
  }

  return {
    /** In order. Complete after `flush()`. */
    all: all as readonly Moment[],
    variables: observation.variables,
    onEvent(event: SandboxEvent) {
      beganAt = Math.min(beganAt ?? Number.POSITIVE_INFINITY, monotonic() - event.at)
      take(event)
    },
    onLog(line: LogLine) {
      const { text, message } = observation.read(line)
      if (text !== undefined) takeText(line, text)
      const moment = message && toMoment(message, message.at - (beganAt ?? message.at))
      if (!moment) return
      // What stands before it in the same stream had been written by then, and was only read later.
      for (const told of written)
        if (isSameStream(told.line, line)) told.moment.at = Math.min(told.moment.at, moment.at)
      take(moment)
    },
    /** All that has been told by now. */
    flush() {
      clearTimeout(timer)
      timer = undefined
      waiting.sort((one, other) => one.at - other.at)
      handOn(waiting.length)
    },
  }
}

/** What `POST_INVOKE_LOG_LEVEL=DEBUG` writes at init. */
const COMPANION = /middy-post-invoke: companion: (\w+)/
const SKIPPED = /middy-post-invoke: task .* is not for the outcome / // a moment of its own

const isSameStream = (one: LogLine, other: LogLine) => one.source === other.source && one.stream === other.stream

const monotonic = () => Number(process.hrtime.bigint()) / 1e6

const toMoment = ({ what, phase, data }: ObservedMessage, at: number): Moment | undefined => {
  const { name = '', awsRequestId: requestId = '', index = 0, carried = false, status = 'completed', error } = data
  const task = { name, requestId, index, carried }
  const end = { status, ...(error === undefined ? {} : { error }) }
  switch (`${what}-${phase}` as const) {
    case 'task-started':
      return { type: 'task-started', at, task }
    case 'task-ended':
      return { type: 'task-ended', at, task, end }
    case 'task-unstarted':
      return { type: 'task-unstarted', at, task, status }
    case 'hook-started':
      return { type: 'hook-started', at, name }
    case 'hook-ended':
      return { type: 'hook-ended', at, name, end }
    case 'hold-started':
      return { type: 'hold-started', at, requestId }
    case 'hold-ended':
      return { type: 'hold-ended', at, requestId }
    case 'load-ended':
      return { type: 'loaded', at, versions: data.versions ?? [], isLate: data.isLate ?? false }
    case 'probe-ended':
      return {
        type: 'probe',
        at,
        isFound: data.isFound ?? false,
        earlier: data.earlier ?? [],
        isStreamed: data.isStreamed ?? false,
        doesNotWait: data.doesNotWait ?? false,
      }
    default:
      return undefined
  }
}
