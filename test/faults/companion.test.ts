// What can happen to the companion's process, that of the layer or the internal extension, and to an environment without it.
import { cpSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { copyLayer, makeFolder, makeLayer, replaced } from '../support/fault-layers.ts'
import { canUnshare, mounted } from '../support/fault-mounts.ts'
import {
  companionPid,
  type Fault,
  type FaultEvent,
  type Given,
  otherLayer,
  untilExited,
  untilLogged,
  untilMarked,
} from '../support/fault-observe.ts'
import { describeFaults, on } from '../support/fault-suite.ts'
import { layer, type Run } from '../support/run.ts'

/** In a control the extension of somebody else takes its place. */
const attached = ({ isControl }: Given) => ({ layers: [isControl ? otherLayer : layer] })

const signal = (run: Run, name: NodeJS.Signals) => process.kill(companionPid(run), name)

const sleeping = {
  tasks: [
    { kind: 'sleep', name: 'second', ms: 20 },
    { kind: 'sleep', name: 'first', ms: 80 },
  ],
}

const inTheHandler: FaultEvent = { ...sleeping, does: 'sleep', ms: 300 }

const killInTheHandler: Fault['during'] = async (run, { requestId }) => {
  await untilMarked(run, requestId, 'handler')
  signal(run, 'SIGKILL')
}

/** Of the layer Lambda notices it, and reports a crash. Of an internal extension the function's process does. */
const other = { original: otherLayer, file: 'extensions/bash-extension' }

const killed: Fault[] = [
  {
    injected: 'The companion is killed while a task runs',
    on: on.extensions,
    event: sleeping,
    during: async (run, { requestId }) => {
      await untilMarked(run, requestId, 'start', 'first')
      signal(run, 'SIGKILL')
    },
  },
  {
    injected: 'The companion is killed between invocations',
    on: on.extensions,
    // Of a layer's Lambda is told. Of an internal extension the function's process is, frozen only when it goes on.
    start: ({ companion }) => ({ freeze: companion === 'layer' }),
    event: sleeping,
    after: (run, { companion }) => {
      signal(run, 'SIGKILL')
      return companion === 'layer' ? untilExited(run) : untilLogged(run, 'WARN_INTERNAL_GONE')
    },
  },
  {
    injected: 'The companion is killed while the handler runs',
    on: on.layer,
    start: attached,
    event: inTheHandler,
    during: killInTheHandler,
    hasControl: true,
  },
  {
    injected: 'The companion is killed while the handler runs',
    on: on.internal,
    event: inTheHandler,
    during: killInTheHandler,
  },
  {
    injected: 'The companion is told to end (SIGTERM) while a task runs',
    on: on.extensions,
    event: sleeping,
    during: async (run, { requestId }) => {
      await untilMarked(run, requestId, 'start', 'first')
      signal(run, 'SIGTERM')
    },
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
  on: on.extensions,
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
    injected: 'The companion is slow to ask for its first event',
    on: on.layer,
    start: ({ cleanUp }) => ({
      layers: [
        copyLayer(cleanUp, replaced(/\n +\[\[ \$command \]\] \|\| # only in the layer\n +ask/, '\nsleep 0.7$&')),
      ],
    }),
  },
  {
    injected: 'The companion ends after it has registered',
    on: on.layer,
    start: ({ cleanUp, isControl }) => {
      const ends = replaced(
        isControl ? /\nwhile / : /\n +\[\[ \$command \]\] \|\| # only in the layer\n +ask/,
        '\nexit 7$&',
      )
      return { layers: [copyLayer(cleanUp, ends, isControl ? other : {})] }
    },
    hasControl: true,
  },
]

/** The internal extension is started by the function's process: with another bash in the place of the machine's. */
const otherBash =
  (script: (real: string) => string) =>
  ({ cleanUp }: Given) => {
    const folder = makeFolder(cleanUp)
    const real = join(folder, 'real')
    cpSync('/bin/bash', real, { dereference: true })
    writeFileSync(join(folder, 'bash'), `#!/bin/sh\n${script(real)}\n`, { mode: 0o755 })
    return mounted(`mount --bind ${folder}/bash "$(readlink -f /bin/bash)"`)
  }

const slowBash: Fault[] = [
  { injected: 'bash is slow to start', start: otherBash(real => `sleep 0.7; exec ${real} "$@"`) },
  { injected: 'bash ends as it starts', start: otherBash(() => 'exit 7') },
  { injected: 'bash does nothing', start: otherBash(() => 'exec sleep 20') },
].map(fault => ({ ...fault, on: on.internal, isSkipped: !canUnshare }))

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
  ...slowBash,
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
