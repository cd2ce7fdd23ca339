// Tasks that go wrong in each way that a task can.
import {
  type Entry,
  type Fault,
  type Given,
  type Start,
  untilExited,
  untilGone,
  untilMarked,
} from '../support/fault-observe.ts'
import { describeFaults, on } from '../support/fault-suite.ts'
import type { Run } from '../support/run.ts'

/** Last in, first out: one task runs before the faulty one, and one after it. */
const between = (faulty: Entry): { tasks: Entry[] } => ({
  tasks: [{ kind: 'quick', name: 'after' }, faulty, { kind: 'quick', name: 'before' }],
})

const faulty = (kind: string, ms?: number): { tasks: Entry[] } =>
  between({ kind, name: 'faulty', ...(ms !== undefined && { ms }) })

/** Without the package the process ends when the invocation is long over. */
const untilControlExited = (run: Run, { isControl }: Given) => isControl && untilExited(run)

const harmless: Fault[] = [
  { injected: 'A task throws', event: faulty('throws') },
  { injected: 'A task rejects', event: faulty('rejects') },
  { injected: 'A task throws `undefined`', event: faulty('throws-nothing') },
  { injected: 'A task throws what cannot be printed', event: faulty('throws-unprintable') },
  { injected: 'A task burns CPU, short of the deadline', event: faulty('burns', 300) },
].map(fault => ({ ...fault, on: on.all, isShared: true }))

/** Tasks are let go long before the companion lets go of the environment: a busy machine is late with each. */
const unhurried: Start = { timeout: 2_500, environment: { FAULTS_OPTIONS: '{"deadlineMargin":1500}' } }

const deadline: Fault[] = [
  { injected: 'A task never ends', event: faulty('never-ends') },
  { injected: 'A task defers another one, for ever', event: faulty('defers-for-ever') },
].map(fault => ({ ...fault, on: on.all, start: () => unhurried }))

const deadly: Fault[] = [
  { injected: 'A task exits the process', event: faulty('exits') },
  { injected: 'A task throws asynchronously while it runs', event: faulty('throws-later') },
  { injected: 'A task leaves a rejection unhandled while it runs', event: faulty('rejects-unhandled') },
  {
    injected: 'A task leaves a rejection unhandled at its end, the last of all',
    event: { tasks: [{ kind: 'rejects-unhandled-at-its-end', name: 'faulty' }] },
  },
].map(fault => ({ ...fault, on: on.all }))

describeFaults('tasks', [
  ...harmless,
  ...deadline,
  {
    // For longer than the timeout and what Lambda leaves a process after SIGTERM.
    injected: 'A task burns CPU past the deadline',
    on: on.all,
    // Nothing has to be in time here: who burns is late on every machine.
    start: () => ({ timeout: 1_500, patience: 0, freeze: false }),
    event: { tasks: [{ kind: 'burns', name: 'burns', ms: 2_400 }] },
    during: (run, { requestId }) => untilMarked(run, requestId, 'start', 'burns'),
    hasControl: true,
  },
  ...deadly,
  {
    injected: 'A task throws asynchronously after its end, before the next invocation',
    on: on.all,
    start: () => ({ freeze: false }),
    event: faulty('throws-after', 100),
    after: ({ sandbox }) => untilGone(sandbox.runtimePid),
  },
  {
    injected: 'A task throws asynchronously after its end, in the next invocation',
    on: on.all,
    event: faulty('throws-after', 100),
    next: { does: 'sleep', ms: 500 },
    hasControl: true,
  },
  {
    injected: 'A task leaves a rejection unhandled after its end, in the next invocation',
    on: on.all,
    event: faulty('rejects-unhandled-after', 100),
    next: { does: 'sleep', ms: 500 },
    hasControl: true,
  },
  {
    injected: "A task runs out of the process' memory",
    on: on.all,
    start: ({ isControl }) => ({ freeze: !isControl, environment: { NODE_OPTIONS: '--max-old-space-size=32' } }),
    event: faulty('runs-out-of-memory'),
    after: untilControlExited,
    hasControl: true,
  },
  {
    injected: "A task's process is killed (SIGKILL)",
    on: on.all,
    start: ({ isControl }) => ({ freeze: !isControl }),
    event: faulty('is-killed'),
    after: untilControlExited,
    hasControl: true,
  },
])
