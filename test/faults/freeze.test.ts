// What a freeze between invocations does to what was left behind, and to connections.
import { setTimeout as sleep } from 'node:timers/promises'
import { companionPid, type Fault, type FaultEvent, type Given, untilMarked } from '../support/fault-observe.ts'
import { type ApiProxy, startProxy } from '../support/fault-proxy.ts'
import { describeFaults, on } from '../support/fault-suite.ts'
import type { Run } from '../support/run.ts'

const LONGER_THAN_ITS_TIMERS_MS = 100

const faulty = (kind: string): FaultEvent => ({
  tasks: [
    { kind: 'sleep', name: 'after', ms: 5 },
    { kind, name: 'faulty' },
  ],
})

const timers: Fault[] = [
  { injected: 'A task leaves a timer that is due during the freeze', event: faulty('leaves-a-timer') },
  { injected: 'A task leaves an interval running', event: faulty('leaves-an-interval') },
  { injected: 'A timer that a task has left calls `defer()` after the thaw', event: faulty('defers-from-a-timer') },
].map(fault => ({ ...fault, on: on.all, after: () => sleep(LONGER_THAN_ITS_TIMERS_MS) }))

const oneTask: FaultEvent = { tasks: [{ kind: 'sleep', name: 'task', ms: 100 }] }

/** From when something is marked on, for longer than what runs takes. */
const standStill =
  (mark: string, pids: (run: Run) => number[]): NonNullable<Fault['during']> =>
  async (run, { requestId }) => {
    await untilMarked(run, requestId, mark)
    for (const pid of pids(run)) process.kill(pid, 'SIGSTOP')
    await sleep(300)
    for (const pid of pids(run)) {
      process.kill(pid, 'SIGCONT')
      await sleep(50)
    }
  }

const proxies = new WeakMap<Given, ApiProxy>()

describeFaults('freeze', [
  ...timers,
  {
    injected: "The connection for the extension's next event is cut during the freeze",
    on: on.extensions,
    start: async given => {
      const proxy = await startProxy(given, () => undefined)
      proxies.set(given, proxy)
      return proxy.start
    },
    after: (_, given) => proxies.get(given)?.cutPolls(),
    // Longer than it takes to ask again.
    next: { tasks: [{ kind: 'sleep', name: 'next', ms: 300 }] },
  },
  {
    injected: "The environment stays frozen for longer than the function's timeout",
    on: on.all,
    start: () => ({ timeout: 2_000 }),
    after: () => sleep(4_000),
  },
  {
    injected: "The function's process stands still while a task runs",
    on: on.all,
    event: oneTask,
    during: standStill('start', ({ sandbox }) => [-(sandbox.runtimePid as number)]),
  },
  {
    injected: "The function's process stands still while the handler runs",
    on: on.all,
    event: { ...oneTask, does: 'sleep', ms: 100 },
    during: standStill('handler', ({ sandbox }) => [-(sandbox.runtimePid as number)]),
  },
  {
    injected: "The companion's process stands still while a task runs",
    on: on.extensions,
    event: oneTask,
    during: standStill('start', run => [companionPid(run)]),
  },
  {
    injected: "The companion's process stands still while the handler runs",
    on: on.extensions,
    event: { ...oneTask, does: 'sleep', ms: 100 },
    during: standStill('handler', run => [companionPid(run)]),
  },
  {
    injected: 'Both processes stand still while a task runs',
    on: on.extensions,
    event: oneTask,
    during: standStill('start', run => [-(run.sandbox.runtimePid as number), companionPid(run)]),
  },
  {
    injected: 'Both processes stand still, and the companion goes on first',
    on: on.extensions,
    event: oneTask,
    during: standStill('start', run => [companionPid(run), -(run.sandbox.runtimePid as number)]),
  },
])
