// An invocation as bars of characters: when the response left, when which task ran, how long the environment was held.
import type { InvocationRun, TaskRun } from './run.ts'
import { cut, duration, type Style, styled } from './terminal.ts'

const MAX_LABEL = 24
const MAX_TASKS = 20
const TEXT_WIDTH = 26

export const drawInvocation = (run: InvocationRun, terminalWidth: number): string => {
  const { status, answeredAt, releasedAt, tasks, handedOff } = run
  const shown = tasks.slice(0, MAX_TASKS)
  const unstarted = run.unstarted.filter(({ status }) => status === 'dropped' || status === 'lost')
  const marks = [
    ...unstarted.map(({ name, at }) => ({ name, at, sign: '✗', style: 'red', text: 'never started' }) as const),
    ...handedOff.map(({ name, at, status }) => ({ name, at, ...HANDED_OFF[status] })),
  ].slice(0, MAX_TASKS)
  const labels = ['held', 'response', ...[...shown, ...marks].map(({ name }) => cut(name, MAX_LABEL))]
  const labelWidth = Math.max(...labels.map(label => label.length)) + 2
  const width = Math.min(60, Math.max(20, terminalWidth - labelWidth - TEXT_WIDTH - 6))
  const end = Math.max(releasedAt, ...shown.map(({ startedAt, endedAt = startedAt }) => endedAt), 0.001)
  /** What did not end is drawn to the end. */
  const taskEnd = ({ endedAt = end }: TaskRun) => endedAt
  const cell = (time: number) => Math.min(width - 1, Math.floor((time / end) * width))
  const bar = (from: number, to: number, character: string) =>
    ' '.repeat(cell(from)) + character.repeat(Math.max(1, cell(to) - cell(from) + (to >= end ? 1 : 0)))
  const row = (label: string, drawn: string, style: Style, text: string) =>
    `    ${label.padEnd(labelWidth)}${styled(style, drawn)}${' '.repeat(Math.max(0, width - drawn.length))}  ${text}`

  return [
    `    ${' '.repeat(labelWidth)}${axis(end, width)}`,
    row('handler', bar(0, answeredAt, '▒'), 'cyan', `0 to ${duration(answeredAt)}`),
    row('response', `${' '.repeat(cell(answeredAt))}◆`, 'yellow', `at ${duration(answeredAt)}`),
    ...shown.map(task =>
      row(
        cut(task.name, MAX_LABEL),
        bar(task.startedAt, taskEnd(task), '█'),
        task.status === 'completed' ? 'green' : 'red',
        task.endedAt === undefined
          ? `${duration(task.startedAt)}, never ended`
          : `${duration(task.startedAt)} to ${duration(task.endedAt)}`,
      ),
    ),
    ...(tasks.length > shown.length ? [`    … and ${tasks.length - shown.length} more tasks`] : []),
    ...marks.map(({ name, at, sign, style, text }) =>
      row(cut(name, MAX_LABEL), `${' '.repeat(cell(at))}${sign}`, style, text),
    ),
    row('held', bar(0, releasedAt, '░'), 'gray', `${RELEASE[status].text} ${duration(releasedAt)}`),
  ].join('\n')
}

/** How the hold ends, for people. */
export const RELEASE = {
  success: { text: 'released at', end: 'lets go' },
  error: { text: 'released at', end: 'lets go' },
  timeout: { text: 'timed out at', end: 'ended by a timeout' },
  crash: { text: 'crashed at', end: 'ended by a crash' },
} as const

const HANDED_OFF = {
  done: { sign: '✓', style: 'green', text: 'handed off, done' },
  failed: { sign: '✗', style: 'red', text: 'handed off, failed' },
  waiting: { sign: '…', style: 'yellow', text: 'handed off, waits' },
  lost: { sign: '✗', style: 'red', text: 'handed off, not done' },
} as const

/** Round numbers, no more than fit. */
const axis = (end: number, width: number): string => {
  const step = tickStep(end, Math.max(2, Math.floor(width / 10)))
  const [unit, per] = step >= 1_000 ? ['s', 1_000] : ['ms', 1]
  let line = ''
  for (let time = 0; time <= end; time += step) {
    const text = `${Number((time / per).toFixed(3))}`
    const at = Math.floor((time / end) * width)
    if (at < line.length) continue
    line = line.padEnd(at) + text
  }
  return styled('gray', `${line} ${unit}`)
}

/** The smallest of 1, 2, 5, 10, 20 … that makes no more ticks than these. */
export const tickStep = (end: number, ticks: number): number => {
  const least = end / ticks
  const magnitude = 10 ** Math.floor(Math.log10(least))
  return [1, 2, 5, 10].map(step => step * magnitude).find(step => step >= least) ?? least
}
