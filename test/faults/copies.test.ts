// The package or its layer more than once, or in versions that differ.
import { renameSync } from 'node:fs'
import { join } from 'node:path'
import { copyLayer, copyPackage, replaced } from '../support/fault-layers.ts'
import type { Fault, FaultEvent } from '../support/fault-observe.ts'
import { describeFaults, on } from '../support/fault-suite.ts'
import { layer } from '../support/run.ts'

/** It stands in the pipe's name. */
const protocolOfLayer = (protocol: number) => replaced(/(\npipe=.*\.middy-post-invoke-)1-/, `$1${protocol}-`)

const otherVersion = replaced(/var version = ".*"/, 'var version = "99.0.0"')
const otherProtocol = (text: string) => otherVersion(replaced(/var PROTOCOL = \d+/, 'var PROTOCOL = 99')(text))

const doing = (does: string): FaultEvent => ({
  does,
  tasks: [
    { kind: 'quick', name: 'second' },
    { kind: 'sleep', name: 'first' },
  ],
})

const processes: Fault[] = [
  { injected: 'A child process loads the bundle, and ends', event: doing('child') },
  { injected: 'A child process loads the bundle, and stays', event: doing('child-that-stays') },
  {
    injected: 'A child process loads the bundle during init, before the function does, and stays',
    start: () => ({ environment: { FAULTS_FIRST: './child-first.mjs' } }),
  },
  {
    injected: 'A child process loads the bundle during init, before the function does, and ends',
    start: () => ({ environment: { FAULTS_FIRST: './child-first-ends.mjs' } }),
  },
  { injected: 'A worker thread loads the bundle, and ends', event: doing('worker') },
  { injected: 'A worker thread loads the bundle, and stays', event: doing('worker-that-stays') },
  {
    injected: 'A worker thread loads the bundle during init, before the function does, and stays',
    start: () => ({ environment: { FAULTS_FIRST: './worker-first.mjs' } }),
  },
].map(fault => ({ ...fault, on: on.all }))

describeFaults('copies', [
  ...processes,
  {
    injected: 'The layer is of a newer version, with another protocol',
    on: on.layer,
    start: ({ cleanUp }) => ({ layers: [copyLayer(cleanUp, protocolOfLayer(2))] }),
  },
  {
    injected: 'The layer is of an older version, with another protocol',
    on: on.layer,
    start: ({ cleanUp }) => ({ layers: [copyLayer(cleanUp, protocolOfLayer(0))] }),
  },
  {
    injected: 'The layer is attached twice, under two names',
    on: on.layer,
    start: ({ cleanUp }) => {
      const second = copyLayer(cleanUp)
      renameSync(join(second, 'extensions', 'post-invoke'), join(second, 'extensions', 'post-invoke-2'))
      return { layers: [layer, second] }
    },
  },
  {
    injected: 'Two versions of the package are in one process, with the same protocol',
    on: on.all,
    start: ({ cleanUp }) => ({ environment: { FAULTS_COPY: copyPackage(cleanUp, otherVersion) } }),
  },
  {
    injected: 'Two versions of the package are in one process, with different protocols',
    on: on.all,
    start: ({ cleanUp }) => ({ environment: { FAULTS_COPY: copyPackage(cleanUp, otherProtocol) } }),
  },
])
