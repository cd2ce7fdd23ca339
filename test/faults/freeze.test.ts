// What a freeze between invocations does to what was left behind, and to connections.
import { setTimeout as sleep } from 'node:timers/promises'
import { copyLayer } from '../support/fault-layers.ts'
import { extensionPid, type Fault, type FaultEvent, type Given, untilMarked } from '../support/fault-observe.ts'
import { type ApiProxy, startProxy } from '../support/fault-proxy.ts'
import { describeFaults, on } from '../support/fault-suite.ts'

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

/**
 * A companion that hangs up on the function when it is sent a signal, which a stopped process gets at the thaw, and that
 * hears of the next event a little later than that.
 */
const hangsUp = (text: string) =>
  `const net = require('node:net'), { connect } = net
net.connect = (...given) => {
  const socket = connect(...given)
  if (typeof given[0] === 'string') process.once('SIGUSR2', () => socket.destroy())
  else {
    const { emit } = socket
    socket.emit = (...event) => {
      if (event[0] !== 'data') return emit.apply(socket, event)
      setTimeout(() => emit.apply(socket, event), 200)
      return true
    }
  }
  return socket
}
${text}`

const proxies = new WeakMap<Given, ApiProxy>()

describeFaults('freeze', [
  ...timers,
  {
    injected: 'The connection between the companion and the function is cut during the freeze',
    on: on.layer,
    start: ({ cleanUp }) => ({ layers: [copyLayer(cleanUp, { companion: hangsUp })] }),
    after: run => process.kill(extensionPid(run), 'SIGUSR2'),
    // It ends well after both have noticed.
    next: { tasks: [{ kind: 'sleep', name: 'next', ms: 500 }] },
  },
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
    start: () => ({ timeout: 1_000 }),
    after: () => sleep(3_000),
  },
  {
    injected: "The function's process stands still while a task runs",
    on: on.all,
    event: { tasks: [{ kind: 'sleep', name: 'task', ms: 100 }] },
    during: async ({ sandbox, ...run }, { requestId }) => {
      await untilMarked({ sandbox, ...run }, requestId, 'start', 'task')
      process.kill(-(sandbox.runtimePid as number), 'SIGSTOP')
      await sleep(300)
      process.kill(-(sandbox.runtimePid as number), 'SIGCONT')
    },
  },
])
