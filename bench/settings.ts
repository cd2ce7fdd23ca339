// What the command line asks for, and how often each thing is measured.
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'

export type Settings = {
  /** Whether docs/evidence/performance.md is written, and docs/performance.md from it. */
  readonly write: boolean
  readonly quick: boolean
  /** Sections to run, by their file's name; all when empty. */
  readonly only: readonly string[]
  /** Extensions of others, each an executable file: its start is measured beside ours. */
  readonly peerExtensions: readonly Peer[]
  /** Programs of others that wrap the runtime client: the latency behind them is measured beside ours. */
  readonly peerWrappers: readonly Peer[]
  /** Picks how often: so much for the page, so much for a quick look. */
  times(full: number, quick: number): number
}

export type Peer = {
  readonly name: string
  readonly path: string
  /** Where it is told that an invocation has ended, or it holds on until the function times out. */
  readonly doneUrl?: string
}

export const usage = `node bench/run.ts [options]

  --quick                     a few rounds of everything: prints ratios, writes nothing
  --write                     writes the pages even so, and says there that it was a quick run
  --only a,b                  only these sections, writes nothing: size, imports, extension-start, cold-start, latency,
                              long-work, tasks, awaits, memory
  --peer-extension name=path  the executable file of another extension, to be measured beside ours; with a URL behind
                              it (name=path,url) that one is POSTed to after each answer, which lets it go on
  --peer-wrapper name=path    a program that wraps the runtime client, to be measured beside ours`

export const readSettings = (argv: readonly string[]): Settings => {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      quick: { type: 'boolean', default: false },
      write: { type: 'boolean', default: false },
      only: { type: 'string', default: '' },
      'peer-extension': { type: 'string', multiple: true, default: [] },
      'peer-wrapper': { type: 'string', multiple: true, default: [] },
    },
  })
  const { quick } = values
  return {
    quick,
    write: values.write || (!quick && values.only === ''),
    only: values.only.split(',').filter(Boolean),
    peerExtensions: values['peer-extension'].map(readPeer),
    peerWrappers: values['peer-wrapper'].map(readPeer),
    times: (full, few) => (quick ? few : full),
  }
}

const readPeer = (given: string): Peer => {
  const [, name, path, doneUrl] = /^([^=]+)=([^,]+)(?:,(.+))?$/.exec(given) ?? []
  if (name && path) return { name, path: resolve(path), ...(doneUrl !== undefined && { doneUrl }) }
  throw new TypeError(`Expected a peer to be given as name=path, got ${JSON.stringify(given)}`)
}
