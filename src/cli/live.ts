// The timeline in the terminal, as it happens: one line a moment, then a picture of the invocation.
import { drawInvocation } from './chart.ts'
import type { End, Moment, TaskFacts } from './moments.ts'
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

  const terminal = createTerminal(() => status())

  const status = (): string | undefined => {
    if (phase === undefined) return undefined
    const names = [...running.values()].map(({ name }) => name)
    const what = names.length > 0 ? `${names.length === 1 ? 'task' : 'tasks'} ${names.join(', ')}` : phase
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
        if (isDetailed || invocation === 0) line(at, [], `companion: ${COMPANIONS[moment.kind] ?? moment.kind}`)
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
        if (isDetailed) line(at, 'green', `task ${named(moment.task)} starts`)
        return
      case 'task-ended': {
        const since = running.get(keyOf(moment.task))?.since ?? at
        running.delete(keyOf(moment.task))
        const text = `task ${named(moment.task)} ${described(moment.end)}, after ${duration(at - since)}`
        if (isDetailed || moment.end.status !== 'completed') line(at, styleOf(moment.end), text)
        return
      }
      case 'task-unstarted':
        if (isDetailed || moment.status !== 'skipped')
          line(at, 'yellow', `task ${named(moment.task)} is not started: ${moment.status}`)
        return
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
        if (moment.reason !== 'SPINDOWN') return
        base = at
        heading('shutdown')
        return
      case 'sigterm':
        line(at, [], `SIGTERM to ${processName(moment.process)}`)
        return
      case 'sigkill':
        line(at, [], `SIGKILL to ${processName(moment.process)}`)
        return
      case 'shutdown-event':
        line(at, [], `SHUTDOWN to ${processName(moment.name)}`)
        return
      case 'process-exited':
        line(at, [], `${processName(moment.process)} ended (${moment.signal ?? `exit code ${moment.exitCode}`})`)
        return
      case 'log':
        if (isDetailed || moment.stream === 'stderr') {
          const source = moment.source === 'function' ? '' : `${moment.source}: `
          line(at, 'gray', `│ ${source}${cut(moment.text, Number.POSITIVE_INFINITY)}`)
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

const keyOf = ({ requestId, index }: TaskFacts) => `${requestId}#${index}`

const named = ({ name, carried }: TaskFacts) => `${cut(name, 60)}${carried ? ' (carried over)' : ''}`

const described = ({ status, error }: End) =>
  status === 'completed' ? 'ended' : `${status}${error === undefined ? '' : ` (${cut(error, 200)})`}`

const styleOf = ({ status }: End): Style => (status === 'completed' ? 'green' : 'red')

const processName = (name: string) => (name === 'function' ? "the function's process" : `the extension ${name}`)

const answerOf = ({ kind, payload, streamed }: InvocationRun): string => {
  const what = kind === 'error' ? 'error' : streamed ? 'streamed response' : 'response'
  return cut(`${what}: ${payload}`, MAX_ANSWER)
}
