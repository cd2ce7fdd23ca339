// What can happen to the layer's companion, and to an environment without it.
import { copyLayer, makeLayer, replaced } from '../support/fault-layers.ts'
import { extensionPid, type Fault, type Given, otherLayer, untilExited, untilMarked } from '../support/fault-observe.ts'
import { describeFaults, on } from '../support/fault-suite.ts'
import { layer, type Run } from '../support/run.ts'

/** In a control the extension of somebody else takes its place. */
const attached = ({ isControl }: Given) => ({ layers: [isControl ? otherLayer : layer] })

const signal = (run: Run, name: NodeJS.Signals) => process.kill(extensionPid(run), name)

const sleeping = {
  tasks: [
    { kind: 'sleep', name: 'second', ms: 20 },
    { kind: 'sleep', name: 'first', ms: 80 },
  ],
}

const killed: Fault[] = [
  {
    injected: 'The companion is killed while a task runs',
    on: on.layer,
    event: sleeping,
    during: async (run, { requestId }) => {
      await untilMarked(run, requestId, 'start', 'first')
      signal(run, 'SIGKILL')
    },
  },
  {
    injected: 'The companion is killed between invocations',
    on: on.layer,
    event: sleeping,
    after: run => {
      signal(run, 'SIGKILL')
      return untilExited(run)
    },
  },
  {
    injected: 'The companion is killed while the handler runs',
    on: on.layer,
    start: attached,
    event: { ...sleeping, does: 'sleep', ms: 300 },
    during: async (run, { requestId }) => {
      await untilMarked(run, requestId, 'handler')
      signal(run, 'SIGKILL')
    },
    hasControl: true,
  },
]

const stopped: Fault[] = [
  {
    injected: 'The companion is stopped when an invocation begins, and continued after the answer',
    isWarm: true,
  },
  { injected: 'The companion is stopped before the first invocation, and continued after the answer' },
].map(fault => ({
  ...fault,
  on: on.layer,
  start: () => ({ freeze: false }),
  event: sleeping,
  before: (run: Run) => signal(run, 'SIGSTOP'),
  during: async (run, { requestId }) => {
    await untilMarked(run, requestId, 'end', 'first')
    signal(run, 'SIGCONT')
  },
}))

const slow: Fault[] = [
  {
    injected: 'The companion is slow to register',
    on: on.layer,
    start: given => ({ layers: [makeLayer(given, 'sleep 0.7')] }),
  },
  {
    injected: 'The companion is slow to start after it has registered',
    on: on.layer,
    start: ({ cleanUp }) => ({
      layers: [copyLayer(cleanUp, { registrar: replaced(/exec "\$node" "\$companion"/, 'sleep 0.7; $&') })],
    }),
  },
  {
    injected: 'The companion is slow to connect',
    on: on.layer,
    start: ({ cleanUp }) => ({ layers: [copyLayer(cleanUp, { companion: connectLate })] }),
  },
]

/** The connection to the function's process, not that to Lambda, is made late. */
const connectLate = (text: string) =>
  `const net = require('node:net'), { connect } = net
net.connect = (...given) => {
  if (typeof given[0] !== 'string') return connect(...given)
  const socket = new net.Socket()
  setTimeout(() => socket.connect(...given), 400)
  return socket
}
${text}`

describeFaults('companion', [
  ...killed,
  ...stopped,
  {
    injected: 'The companion is stopped for good',
    on: on.layer,
    isWarm: true,
    start: given => ({ ...attached(given), freeze: false, timeout: 1_000 }),
    event: sleeping,
    before: run => signal(run, 'SIGSTOP'),
    hasControl: true,
  },
  ...slow,
  {
    injected: 'The layer is expected, but not attached',
    on: on.layer,
    start: () => ({ layers: [] }),
    event: sleeping,
  },
  {
    injected: "The function's process is killed between invocations",
    on: on.all,
    event: sleeping,
    after: run => {
      process.kill(run.sandbox.runtimePid as number, 'SIGKILL')
      return untilExited(run)
    },
  },
])
