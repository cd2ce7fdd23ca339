// What the command line makes of what it is told: the order of moments, the summary of a run, the pictures.
import { PassThrough } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { stripVTControlCharacters } from 'node:util'
import { describe, expect, it } from '@jest/globals'
import { drawInvocation, tickStep } from '../../src/cli/chart.ts'
import { readOwnLine } from '../../src/cli/log-lines.ts'
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
    // What stands before the message was written before the task had ended, and only read later.
    expect(seen).toEqual(['init-started', 'half a line', 'task-ended', 'released', 'companion'])
    expect(moments.all).toHaveLength(seen.length)
  })

  it('puts a response before the tasks that follow it, though it was read later', () => {
    const seen: string[] = []
    const moments = createMoments(moment => seen.push(moment.type))
    const { POST_INVOKE_OBSERVER: marker } = moments.variables(undefined)
    const began = monotonic()
    moments.onEvent({ type: 'init-started', at: 0 })
    const tell = (what: string, at: number) =>
      moments.onLog({
        ...{ at: 100, source: 'function', stream: 'stderr' },
        text: `${marker}${JSON.stringify({ at: began + at, what, phase: 'started', data: { name: 'mail', awsRequestId: 'r' } })}`,
      })
    tell('hold', 20)
    tell('task', 21)
    moments.onEvent({ type: 'response', requestId: 'r', kind: 'response', at: 30 })
    moments.flush()
    expect(seen).toEqual(['init-started', 'hold-started', 'response', 'task-started'])
    expect(summarize(moments.all, [report('r', { at: 30 })]).invocations).toHaveLength(1)
  })

  it('puts what the function tells in its place though a busy machine told of the first event late', () => {
    const seen: string[] = []
    const moments = createMoments(moment => seen.push(moment.type))
    const { POST_INVOKE_OBSERVER: marker } = moments.variables(undefined)
    const began = monotonic() - 20
    moments.onEvent({ type: 'init-started', at: 0 })
    moments.onEvent({ type: 'sigterm', process: 'function', at: monotonic() - began })
    const message = { at: monotonic(), what: 'hook', phase: 'started', data: { name: 'close' } }
    moments.onLog({ at: 30, source: 'function', stream: 'stderr', text: `${marker}${JSON.stringify(message)}` })
    moments.flush()
    expect(seen).toEqual(['init-started', 'sigterm', 'hook-started'])
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

  const lost = (at: number, requestId: string, ...names: string[]): Moment => ({
    type: 'tasks-lost',
    at,
    requestId,
    names,
  })
  const started = (at: number, name: string, index: number): Moment => ({
    type: 'task-started',
    at,
    task: task(name, 'r1', index),
  })
  const summarizeLosses = (...more: Moment[]) => {
    const all: Moment[] = [{ type: 'invoke', at: 0, requestId: 'r1', deadlineMs: 0 }, ...more]
    const run = summarize(all, [report('r1', { status: 'crash' })])
    return run.invocations[0]?.unstarted.map(({ name, index }) => [name, index])
  }

  it('counts a task as lost once, whoever tells of it', () => {
    expect(summarizeLosses(started(1, 'c', 3), lost(5, 'r1', 'c', 'a', 'a'), lost(6, 'r1', 'c', 'a', 'a'))).toEqual([
      ['a', undefined],
      ['a', undefined],
    ])
  })

  it('does not take a task that had ended for one of its name that was lost', () => {
    const ended: Moment = { type: 'task-ended', at: 2, task: task('a', 'r1', 2), end: { status: 'completed' } }
    expect(summarizeLosses(started(1, 'a', 2), ended, lost(5, 'r1', 'a'))).toEqual([['a', undefined]])
    expect(summarizeLosses(started(1, 'a', 2), lost(5, 'r1', 'a'), { ...ended, at: 9 })).toEqual([['task 1', 1]])
  })

  it('knows of a task that nobody named by the number of another one', () => {
    expect(summarizeLosses(started(1, 'c', 3))).toEqual([
      ['task 1', 1],
      ['task 2', 2],
    ])
  })

  it('names what was carried over and never ran', () => {
    const carried: Moment = { type: 'task-unstarted', at: 5, task: task('two', 'r1', 2), status: 'carried' }
    const ran: Moment = { type: 'task-started', at: 35, task: task('two', 'r1', 2, true) }
    const ended: Moment = { type: 'task-ended', at: 36, task: task('two', 'r1', 2, true), end: { status: 'completed' } }
    const both: Moment[] = [
      { type: 'invoke', at: 0, requestId: 'r1', deadlineMs: 0 },
      carried,
      { type: 'shutdown-started', at: 30, reason: 'SPINDOWN' },
    ]
    expect(failuresOf(summarize(both, [report('r1')]))).toEqual(['task "two" was carried over, and never ran'])
    expect(failuresOf(summarize([...both, ran, ended], [report('r1')]))).toEqual([])
  })

  it('tells of handed-off work that waits only where it is not done later', () => {
    const work = (at: number, status: 'waiting' | 'done' | 'lost'): Moment => ({
      type: 'handed-off',
      at,
      name: 'report',
      requestId: 'r1',
      status,
    })
    const failures = (...more: Moment[]) =>
      failuresOf(
        summarize(
          [
            { type: 'invoke', at: 0, requestId: 'r1', deadlineMs: 0 },
            work(5, 'waiting'),
            { type: 'shutdown-started', at: 30, reason: 'SPINDOWN' },
            ...more,
          ],
          [report('r1')],
        ),
      )
    expect(failures()).toEqual(['handed-off work "report" was not done: time was up'])
    expect(failures(work(35, 'done'))).toEqual([])
    expect(failures(work(35, 'lost'))).toEqual([
      'shutdown: handed-off work "report" was not done: the environment ended before',
    ])
  })

  it('tells failures in the order in which they happened', () => {
    const ordered = summarize(
      [
        { type: 'invoke', at: 0, requestId: 'r1', deadlineMs: 0 },
        { type: 'task-started', at: 1, task: task('a', 'r1', 1) },
        { type: 'task-ended', at: 3, task: task('a', 'r1', 1), end: { status: 'failed', error: 'Error: x' } },
        { type: 'fault', at: 4, text: 'a fault of middy-post-invoke' },
        { type: 'task-unstarted', at: 5, task: task('b', 'r1', 2), status: 'dropped' },
      ],
      [report('r1', { status: 'timeout', releasedAt: 90 })],
    )
    expect(failuresOf(ordered)).toEqual([
      'task "a" failed: Error: x',
      'a fault of middy-post-invoke',
      'task "b" was never started: time was up',
      'the function timed out',
    ])
  })

  it('has the message of the handler’s error', () => {
    const payload = JSON.stringify({ errorType: 'RangeError', errorMessage: 'no such order' })
    const failed = summarize([], [report('r1', { status: 'error', kind: 'error', errorType: 'RangeError', payload })])
    expect(failuresOf(failed)).toEqual(['the handler failed (RangeError): no such order'])
    expect(failed.invocations[0]?.errorMessage).toBe('no such order')
  })

  it('survives an invocation that never began', () => {
    expect(summarize([], [report('r1', { status: 'crash' })]).invocations).toMatchObject([
      { tasks: [], status: 'crash' },
    ])
  })
})

describe('command line: lines of this package', () => {
  const handedOff = { type: 'handed-off', name: 'say "hi"', requestId: 'r1' }
  const name = JSON.stringify(handedOff.name)

  it.each([
    [
      'a failure',
      `handed-off work ${name} of request r1 failed: Error: x, attempts: 3`,
      [{ ...handedOff, status: 'failed', error: 'Error: x, attempts: 3' }],
    ],
    [
      'what was done',
      `handed-off work ${name} of request r1 done: 204, attempts: 1`,
      [{ ...handedOff, status: 'done' }],
    ],
    [
      'what waits',
      `time was up before handed-off work was done: ${name} of request r1, "b" of request r2 and 3 more. It stays in the spool.`,
      [
        { ...handedOff, status: 'waiting' },
        { type: 'handed-off', name: 'b', requestId: 'r2', status: 'waiting' },
      ],
    ],
    [
      'what is lost',
      `the environment ends before handed-off work was done: ${name} of request r1. It is lost.`,
      [{ ...handedOff, status: 'lost' }],
    ],
    [
      'unfinished tasks',
      'the process ends in the middle of request r1; unfinished: "a", "b; unfinished: c" and 2 more',
      [{ type: 'tasks-lost', requestId: 'r1', names: ['a', 'b; unfinished: c'] }],
    ],
    [
      'those of a hold',
      'released request r1 before its deadline; unfinished: "a"',
      [{ type: 'tasks-lost', requestId: 'r1', names: ['a'] }],
    ],
    [
      'a task that was carried',
      'the environment ends before task "a" of request r1 could run',
      [{ type: 'tasks-lost', requestId: 'r1', names: ['a'] }],
    ],
    [
      'what a shutdown left',
      'the shutdown\'s time is over; not run: "a", "b"',
      [{ type: 'tasks-lost', names: ['a', 'b'] }],
    ],
    [
      'a fault',
      'handed-off work cannot be run; it stays in the spool Error: x',
      [{ type: 'fault', text: 'handed-off work cannot be run; it stays in the spool Error: x' }],
    ],
    [
      'a command',
      'POST_INVOKE_COMMAND after request r1 ended with 3',
      [{ type: 'fault', text: 'POST_INVOKE_COMMAND after request r1 ended with 3' }],
    ],
    ['nothing', 'companion: gate', []],
  ])('tell of %s, as text and as JSON', (_, text, findings) => {
    const line = `middy-post-invoke: ${text}`
    expect(readOwnLine(line)).toEqual(findings)
    expect(readOwnLine(`2026-01-01T00:00:00.000Z\tr9\tERROR\t${line}\r    at somewhere`)).toEqual(findings)
    expect(readOwnLine(JSON.stringify({ level: 'ERROR', message: line }))).toEqual(findings)
    expect(readOwnLine(JSON.stringify({ level: 'ERROR', message: { message: line, requestId: 'r1' } }))).toEqual(
      findings,
    )
  })

  it('have the error in a field where they are JSON', () => {
    const message = `middy-post-invoke: handed-off work ${name} of request r1 failed:`
    const failed = [{ ...handedOff, status: 'failed', error: 'RangeError: x' }]
    const error = { errorType: 'RangeError', errorMessage: 'x' }
    expect(readOwnLine(JSON.stringify({ message, ...error }))).toEqual(failed)
    expect(readOwnLine(JSON.stringify({ message: { message, error } }))).toEqual(failed)
    expect(readOwnLine(JSON.stringify({ message: { message, error: { name: 'RangeError', message: 'x' } } }))).toEqual(
      failed,
    )
  })

  it('are none of anybody else', () => {
    expect(readOwnLine('handed-off work "a" of request r1 failed')).toEqual([])
    expect(readOwnLine('{ broken')).toEqual([])
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
    handedOff: [],
    faults: [],
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

  it.each([
    ['success', 'released at', 'lets go'],
    ['timeout', 'timed out at', 'ended by a timeout'],
    ['crash', 'crashed at', 'ended by a crash'],
  ] as const)('say of a %s how it ended', (status, words, drawnWords) => {
    expect(drawInvocation(invocation({ status }), 100)).toContain(`${words} 90.0 ms`)
    expect(drawSvg(invocation({ status }))).toContain(`>${drawnWords}<`)
  })

  it('show what never started, and handed-off work', () => {
    const run = invocation({
      unstarted: [
        { ...task('<mail>', 'r', 2), status: 'lost', at: 90 },
        { ...task('alarm', 'r', 3), status: 'skipped', at: 5 },
      ],
      handedOff: [{ name: 'report', requestId: 'r', status: 'failed', at: 40 }],
    })
    const drawn = drawInvocation(run, 100)
    expect(drawn).toMatch(/<mail> .*✗ +never started/)
    expect(drawn).toMatch(/report .*✗ +handed off, failed/)
    expect(drawn).not.toContain('alarm')
    const svg = drawSvg(run)
    expect(svg).toContain('>task &lt;mail&gt;<')
    expect(svg).toContain('>handed off, failed<')
    expect(svg).not.toContain('alarm')
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
