// What the command line makes of what it is told: the order of moments, the summary of a run, the pictures.
import { PassThrough } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { stripVTControlCharacters } from 'node:util'
import { describe, expect, it } from '@jest/globals'
import { drawInvocation, tickStep } from '../../src/cli/chart.ts'
import { createMoments, type Moment } from '../../src/cli/moments.ts'
import { failuresOf, type InvocationRun, summarize } from '../../src/cli/run.ts'
import { drawSvg } from '../../src/cli/svg.ts'
import { createTerminal, cut, duration } from '../../src/cli/terminal.ts'
import type { InvocationReport } from '../../src/sandbox/types.ts'

const task = (name: string, requestId: string, index = 1, carried = false) => ({ name, requestId, index, carried })
const report = (requestId: string, more: Partial<InvocationReport> = {}) =>
  ({
    requestId,
    status: 'success',
    kind: 'response',
    payload: '1',
    streamed: false,
    at: 10,
    releasedAt: 90,
    ...more,
  }) as InvocationReport

describe('command line: moments', () => {
  const monotonic = () => Number(process.hrtime.bigint()) / 1e6

  it('puts what comes late where it belongs', async () => {
    const seen: string[] = []
    const moments = createMoments(moment => seen.push(moment.type === 'log' ? moment.text : moment.type))
    const { POST_INVOKE_OBSERVER: marker } = moments.variables(undefined)
    const began = monotonic()
    moments.onEvent({ type: 'init-started', at: 0 })
    await sleep(5)
    const ended = monotonic()
    await sleep(5)
    const at = monotonic() - began
    moments.onEvent({ type: 'released', requestId: 'r', at })
    const message = { at: ended, what: 'task', phase: 'ended', data: { name: 'mail', awsRequestId: 'r', index: 1 } }
    moments.onLog({
      at: at + 1,
      source: 'function',
      stream: 'stderr',
      text: `half a line${marker}${JSON.stringify(message)}`,
    })
    moments.onLog({ at: at + 2, source: 'function', stream: 'stderr', text: `${marker}{"at":` })
    moments.onLog({ at: at + 2, source: 'function', stream: 'stdout', text: 'x middy-post-invoke: companion: gate' })
    moments.flush()
    expect(seen).toEqual(['init-started', 'task-ended', 'released', 'half a line', 'companion'])
    expect(moments.all).toHaveLength(seen.length)
  })

  it('hands them on by itself, too', async () => {
    const seen: string[] = []
    const moments = createMoments(moment => seen.push(moment.type))
    moments.onEvent({ type: 'init-started', at: 0 })
    for (let wait = 0; wait < 500 && seen.length === 0; wait += 1) await sleep(10)
    expect(seen).toEqual(['init-started'])
  })
})

describe('command line: summary', () => {
  const moments: Moment[] = [
    { type: 'init-started', at: 0 },
    { type: 'companion', at: 5, kind: 'layer' },
    { type: 'init-ended', at: 50 },
    { type: 'invoke', at: 100, requestId: 'r1', deadlineMs: 0 },
    { type: 'task-started', at: 120, task: task('one', 'r1') },
    { type: 'task-ended', at: 130, task: task('one', 'r1'), end: { status: 'failed', error: 'Error: x' } },
    { type: 'task-unstarted', at: 140, task: task('two', 'r1', 2), status: 'carried' },
    { type: 'task-unstarted', at: 140, task: task('three', 'r1', 3), status: 'dropped' },
    { type: 'invoke', at: 200, requestId: 'r2', deadlineMs: 0 },
    { type: 'task-started', at: 220, task: task('two', 'r1', 2, true) },
    { type: 'task-ended', at: 225, task: task('two', 'r1', 2, true), end: { status: 'completed' } },
    { type: 'task-started', at: 230, task: task('one', 'r2') },
    { type: 'shutdown-started', at: 300, reason: 'SPINDOWN' },
    { type: 'hook-started', at: 310, name: 'close' },
    { type: 'hook-ended', at: 320, name: 'close', end: { status: 'completed' } },
    { type: 'hook-started', at: 330, name: 'other' },
    { type: 'shutdown-ended', at: 340 },
  ]
  const run = summarize(moments, [
    report('r1'),
    report('r2', { status: 'timeout', kind: 'error', errorType: 'Sandbox.Timedout' }),
  ])

  it('tells times from the beginning of each part', () => {
    expect(run).toMatchObject({
      companion: 'layer',
      init: { readyAt: 50 },
      invocations: [
        {
          requestId: 'r1',
          tasks: [{ name: 'one', startedAt: 20, endedAt: 30, status: 'failed' }],
          unstarted: [{ name: 'two' }, { name: 'three' }],
        },
        {
          requestId: 'r2',
          tasks: [
            { name: 'two', requestId: 'r1', carried: true, startedAt: 20, endedAt: 25 },
            { name: 'one', startedAt: 30 },
          ],
        },
      ],
      shutdown: {
        hooks: [
          { name: 'close', startedAt: 10, endedAt: 20, status: 'completed' },
          { name: 'other', startedAt: 30 },
        ],
        endedAt: 40,
      },
    })
  })

  it('names all that went wrong', () => {
    expect(failuresOf(run)).toEqual([
      'invocation 1: task "one" failed: Error: x',
      'invocation 1: task "three" was never started: time was up',
      'invocation 2: the function timed out (Sandbox.Timedout)',
      'invocation 2: task "one" did not end',
      'shutdown: hook "other" did not end',
    ])
  })

  it('survives an invocation that never began', () => {
    expect(summarize([], [report('r1', { status: 'crash' })]).invocations).toMatchObject([
      { tasks: [], status: 'crash' },
    ])
  })
})

describe('command line: pictures', () => {
  const tasks = (count: number): InvocationRun['tasks'] =>
    Array.from({ length: count }, (_, index) => ({
      ...task(`task ${index}`, 'r', index),
      startedAt: 10,
      endedAt: 80,
      status: 'completed',
    }))
  const invocation = (more: Partial<InvocationRun> = {}): InvocationRun => ({
    requestId: 'r',
    status: 'success',
    kind: 'response',
    payload: '1',
    streamed: false,
    answeredAt: 10,
    tasks: tasks(1),
    unstarted: [],
    releasedAt: 90,
    ...more,
  })

  it.each([
    ['an instant', invocation({ answeredAt: 0, releasedAt: 0, tasks: [] })],
    ['an hour', invocation({ answeredAt: 3_600_000, releasedAt: 3_600_000 })],
    ['a task without end', invocation({ tasks: [{ ...task('x'.repeat(500), 'r'), startedAt: 20 }] })],
    ['very many tasks', invocation({ tasks: tasks(1_000) })],
  ])('are drawn of %s', (_, run) => {
    for (const width of [40, 80, 300]) {
      const lines = drawInvocation(run, width).split('\n')
      expect(lines.length).toBeLessThan(30)
      expect(Math.max(...lines.map(line => line.length))).toBeLessThan(140)
    }
    const svg = drawSvg(run)
    expect(svg).not.toMatch(/NaN|Infinity|undefined/)
    expect(svg.length).toBeLessThan(20_000)
  })

  it('stand in cells as long as they took', () => {
    const [, handler, response, bar, held] = drawInvocation(
      invocation({ tasks: [{ ...task('mail', 'r'), startedAt: 45, endedAt: 90, status: 'completed' }] }),
      102,
    ).split('\n')
    const cells = (line = '') => line.slice(14, 74)
    expect(cells(handler).trimEnd()).toBe('▒'.repeat(6))
    expect(cells(response).trimEnd()).toBe(`${' '.repeat(6)}◆`)
    expect(cells(bar)).toBe(' '.repeat(30) + '█'.repeat(30))
    expect(cells(held)).toBe('░'.repeat(60))
  })

  it('have round ticks', () => {
    expect([tickStep(90, 6), tickStep(100, 10), tickStep(3_600_000, 6), tickStep(0.5, 5)]).toEqual([
      20, 10, 1_000_000, 0.1,
    ])
  })
})

describe('command line: terminal', () => {
  const stripped = (text: string, separator: string) => text.split(separator).map(stripVTControlCharacters)
  const open = (isTTY: boolean) => {
    const stream = Object.assign(new PassThrough(), { isTTY, columns: 50 })
    const terminal = createTerminal(() => undefined, stream as unknown as NodeJS.WriteStream)
    return { terminal, written: () => String(stream.read() ?? '') }
  }

  it('keeps the status below the lines', () => {
    const { terminal, written } = open(true)
    terminal.status('x'.repeat(100))
    terminal.line('a line')
    terminal.status('second')
    terminal.end()
    const erase = '\r\u001b[2K'
    const [first, second, rest] = stripped(written(), erase)
    expect([first, second, rest]).toEqual([`${'x'.repeat(48)}…`, 'a line\nsecond', ''])
  })

  it('writes nothing but lines to what is no terminal', () => {
    const { terminal, written } = open(false)
    terminal.status('status')
    terminal.line('a line')
    terminal.end()
    expect(written()).toBe('a line\n')
  })

  it('shows times and texts in a form that can be read', () => {
    expect([0, 43.44, 999.9, 2_345, 80_000].map(duration)).toEqual([
      '0.0 ms',
      '43.4 ms',
      '999.9 ms',
      '2.35 s',
      '1 min 20 s',
    ])
    expect(cut('a\tb\u001b[31mc\nd\u0000', 20)).toBe('a bc d ')
    expect(cut('abcdef', 4)).toBe('abc…')
  })
})
