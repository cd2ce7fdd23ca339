// Handlers that go wrong after they have deferred.
import type { Fault, FaultEvent } from '../support/fault-observe.ts'
import { describeFaults, on } from '../support/fault-suite.ts'

const deferring = (does: string, ms?: number): FaultEvent => ({
  does,
  ...(ms !== undefined && { ms }),
  tasks: [
    { kind: 'quick', name: 'second' },
    { kind: 'sleep', name: 'first', ms: 20 },
  ],
})

const crashes: Fault[] = [
  { injected: 'The handler exits the process', event: deferring('exits') },
  { injected: 'The handler throws asynchronously', event: deferring('throws-later') },
  { injected: 'The handler leaves a rejection unhandled', event: deferring('rejects-unhandled') },
  { injected: "The handler's process is killed (SIGKILL)", event: deferring('is-killed') },
].map(fault => ({ ...fault, on: on.all, hasControl: true }))

describeFaults('handler', [
  { injected: 'The handler throws', on: on.all, isShared: true, event: deferring('throws') },
  {
    injected: 'The handler runs into the timeout',
    on: on.all,
    start: () => ({ timeout: 700 }),
    event: deferring('hangs'),
    hasControl: true,
  },
  {
    injected: 'The handler runs into the timeout, with `shutdown: true`',
    on: on.gate,
    start: () => ({ timeout: 700, environment: { FAULTS_OPTIONS: '{"shutdown":true}' } }),
    event: deferring('hangs'),
    hasControl: true,
  },
  {
    injected: 'The handler burns CPU past the deadline',
    on: on.all,
    start: () => ({ timeout: 700 }),
    event: deferring('burns', 30_000),
    hasControl: true,
  },
  ...crashes,
])
