// The timeline in the terminal, as it happens: one line a moment, then a picture of the invocation.
import { drawInvocation } from './chart.ts'
import { type End, type Moment, type TaskFacts, taskTitle } from './moments.ts'
import type { InvocationRun } from './run.ts'
import { createTerminal, cut, duration, type Style, styled } from './terminal.ts'

export type LiveOptions = {
  readonly count: number
  /** The function's timeout in milliseconds. */
  readonly timeout: number
}

/** Of more invocations than these, each is a step of a progress, and not a timeline. */
export const DETAILED = 5

/** How much of an answer is shown, in characters. All of it is in what `--json` prints. */
const MAX_ANSWER = 500

export const createLive = ({ count, timeout }: LiveOptions) => {
  const isDetailed = count <= DETAILED
  /** Where the times of the lines begin, and what goes on since when. */
  let base = 0
  let invocation = 0
  let deadline: number | undefined
  const running = new Map<string, { readonly name: string; readonly since: number }>()
  let phase: string | undefined
  let reported = 0
  /** Of the shutdown, in which SIGTERM and SIGKILL are no failures. */
  let isSpindown = false
  const signalled = new Set<string>()
  const killed = new Set<string>()

  const terminal = createTerminal(() => status())

  const status = (): string | undefined => {
    if (phase === undefined) return undefined
    const names = [...running.values()].map(({ name }) => name)
    const what = names.length > 0 ? names.map(name => taskTitle(cut(name, 60))).join(', ') : phase
    if (!isDetailed) return `  ${invocation} of ${count} invocations: ${what}`
    const left = deadline === undefined ? '' : `, ${duration(Math.max(0, deadline - Date.now()))} until the deadline`
    return `  … ${what}${left}`
  }

  const line = (at: number, style: Style, text: string) =>
    terminal.line(`  ${styled('gray', duration(at - base).padStart(10))}  ${styled(style, text)}`)
  const heading = (text: string) => terminal.line(`\n${styled('bold', text)}`)

  const onMoment = (moment: Moment) => {
    const { at } = moment
    switch (moment.type) {
      case 'init-started':
        base = at
        phase = 'init'
        if (isDetailed || invocation === 0) heading('init')
        return
      case 'extension-registered':
        if (isDetailed || invocation === 0) line(at, [], `${moment.kind} extension ${moment.name} registered`)
        return
      case 'companion':
        if (isDetailed || invocation === 0) {
          const late = phase === 'handler' ? ', from the next invocation on' : ''
          line(at, [], `companion: ${COMPANIONS[moment.kind] ?? moment.kind}${late}`)
        }
        return
      case 'init-ended':
        phase = undefined
        if (isDetailed || invocation === 0) line(at, [], 'ready')
        return
      case 'init-failed':
        phase = undefined
        line(at, 'red', `init failed: ${moment.errorType}`)
        return
      case 'invoke':
        invocation += 1
        base = at
        deadline = Date.now() + timeout
        phase = 'handler'
        if (!isDetailed) return
        heading(`invocation ${invocation}${count > 1 ? ` of ${count}` : ''}, request ${moment.requestId}`)
        line(at, [], 'request in')
        return
      case 'response-first-byte':
        if (isDetailed) line(at, 'yellow', 'first byte out')
        return
      case 'response':
        phase = 'waiting for the release'
        if (isDetailed) line(at, moment.kind === 'error' ? 'red' : 'yellow', `${moment.kind} out`)
        return
      case 'task-started':
        running.set(keyOf(moment.task), { name: moment.task.name, since: at })
        if (isDetailed) line(at, 'green', `${named(moment.task)} starts`)
        return
      case 'task-ended': {
        const since = running.get(keyOf(moment.task))?.since ?? at
        running.delete(keyOf(moment.task))
        const text = `${named(moment.task)} ${described(moment.end)}, after ${duration(at - since)}`
        if (isDetailed || moment.end.status !== 'completed') line(at, styleOf(moment.end), text)
        return
      }
      case 'task-unstarted':
        if (isDetailed || moment.status !== 'skipped')
          line(
            at,
            moment.status === 'dropped' ? 'red' : 'yellow',
            `${named(moment.task)} is not started: ${moment.status}`,
          )
        return
      case 'tasks-lost':
        line(at, 'red', `unfinished: ${moment.names.map(name => taskTitle(cut(name, 60))).join(', ')}`)
        return
      case 'handed-off': {
        if (!isDetailed && moment.status === 'done') return
        const error = moment.error === undefined ? '' : `: ${cut(moment.error, 200)}`
        line(
          at,
          HANDED_OFF[moment.status].style,
          `handed-off work ${cut(moment.name, 60)} ${HANDED_OFF[moment.status].text}${error}`,
        )
        return
      }
      case 'hook-started':
        line(at, 'green', `hook ${cut(moment.name, 60)} starts`)
        return
      case 'hook-ended':
        line(at, styleOf(moment.end), `hook ${cut(moment.name, 60)} ${described(moment.end)}`)
        return
      case 'released':
        phase = undefined
        if (isDetailed) line(at, [], 'released')
        return
      case 'timeout':
        line(at, 'red', `timed out after ${duration(timeout)}`)
        return
      case 'reset':
        line(at, 'red', `the environment is reset: ${moment.reason}`)
        return
      case 'shutdown-started':
        running.clear()
        deadline = undefined
        phase = undefined
        isSpindown = moment.reason === 'SPINDOWN'
        if (!isSpindown) return
        base = at
        heading('shutdown')
        return
      case 'sigterm':
        signalled.add(moment.process)
        line(at, [], `SIGTERM to ${processName(moment.process)}: time for its shutdown`)
        return
      case 'sigkill': {
        const why = !isSpindown ? '' : signalled.has(moment.process) ? ': its time was over' : `: ${USUAL_END}`
        killed.add(moment.process)
        line(at, [], `SIGKILL to ${processName(moment.process)}${why}`)
        return
      }
      case 'shutdown-event':
        line(at, [], `SHUTDOWN to ${processName(moment.name)}: the environment ends`)
        return
      case 'process-exited': {
        const { process, signal, exitCode } = moment
        const isOwn = isSpindown && signal === 'SIGKILL' && !killed.has(process)
        const how = isOwn ? 'SIGKILL by itself: it was done' : (signal ?? `exit code ${exitCode}`)
        line(at, [], `${processName(process)} ended (${how})`)
        return
      }
      case 'log':
        if (isDetailed || moment.stream === 'stderr') {
          const source = moment.source === 'function' ? '' : `${moment.source}: `
          line(at, [], `${styled('gray', '│')} ${source}${cut(moment.text, Number.POSITIVE_INFINITY)}`)
        }
        return
    }
  }

  return {
    heading: (text: string) => terminal.line(text),
    onMoment(moment: Moment) {
      onMoment(moment)
      terminal.status(status())
    },
    /** An invocation is over, and all of its moments have been told. */
    onInvocation(run: InvocationRun) {
      reported += 1
      if (isDetailed) {
        terminal.line(`\n    ${styled('yellow', answerOf(run))}`)
        terminal.line(`\n${drawInvocation(run, terminal.width)}`)
      } else if (reported % Math.ceil(count / 10) === 0 && reported < count && !process.stdout.isTTY) {
        terminal.line(`  ${reported} of ${count} invocations`)
      }
    },
    end: () => terminal.end(),
  }
}

const COMPANIONS: Record<string, string> = {
  layer: 'the layer',
  gate: 'embedded, the gate: the runtime client itself waits for the tasks',
  internal: "embedded, the internal extension: the function's own process holds the environment",
  none: 'none',
}

const HANDED_OFF = {
  done: { style: 'green', text: 'done' },
  failed: { style: 'red', text: 'failed' },
  waiting: { style: 'yellow', text: 'is not done yet: time was up' },
  lost: { style: 'red', text: 'is not done: the environment ends' },
} as const

const USUAL_END = 'the usual end where no extension asks for time'

const keyOf = ({ requestId, index }: TaskFacts) => `${requestId}#${index}`

const named = ({ name, carried }: Pick<TaskFacts, 'name' | 'carried'>) =>
  `${taskTitle(cut(name, 60))}${carried ? ' (carried over)' : ''}`

const described = ({ status, error }: End) =>
  status === 'completed' ? 'ended' : `${status}${error === undefined ? '' : ` (${cut(error, 200)})`}`

const styleOf = ({ status }: End): Style => (status === 'completed' ? 'green' : 'red')

const processName = (name: string) => (name === 'function' ? "the function's process" : `the extension ${name}`)

const answerOf = ({ kind, payload, streamed }: InvocationRun): string => {
  const what = kind === 'error' ? 'error' : streamed ? 'streamed response' : 'response'
  return cut(`${what}: ${payload}`, MAX_ANSWER)
}
