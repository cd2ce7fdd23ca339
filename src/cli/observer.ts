// Loaded into the function's process by `post-invoke invoke` and `doctor`: writes down what this package publishes on its
// channels, one line a message, on standard error. It waits for nothing and changes nothing.
import type { ObservedMessage } from './observation.ts'
import { LOADED_CHANNEL, PROBE_CHANNEL } from './probe-name.ts'

const CHANNELS: Record<string, Omit<ObservedMessage, 'at' | 'data'>> = {
  'tracing:middy-post-invoke:task:start': { what: 'task', phase: 'started' },
  'tracing:middy-post-invoke:task:asyncEnd': { what: 'task', phase: 'ended' },
  'middy-post-invoke:task:unstarted': { what: 'task', phase: 'unstarted' },
  'tracing:middy-post-invoke:hold:start': { what: 'hold', phase: 'started' },
  'tracing:middy-post-invoke:hold:asyncEnd': { what: 'hold', phase: 'ended' },
  'tracing:middy-post-invoke:hook:start': { what: 'hook', phase: 'started' },
  'tracing:middy-post-invoke:hook:asyncEnd': { what: 'hook', phase: 'ended' },
  [LOADED_CHANNEL]: { what: 'load', phase: 'ended' },
  [PROBE_CHANNEL]: { what: 'probe', phase: 'ended' },
}

const main = () => {
  const { POST_INVOKE_OBSERVER: marker } = process.env
  // For this process alone: children inherit what it leaves here, and so do worker threads.
  delete process.env.POST_INVOKE_OBSERVER
  if (marker === undefined) return
  const { subscribe } = process.getBuiltinModule('node:diagnostics_channel')
  let areVersionsTold = false
  const tell = (kind: (typeof CHANNELS)[string], data: Record<string, unknown>) => {
    const at = Number(process.hrtime.bigint()) / 1e6
    writeAll(`${marker}${JSON.stringify({ at, ...kind, data })}\n`)
  }
  for (const [channel, kind] of Object.entries(CHANNELS)) {
    subscribe(channel, message => {
      try {
        if (kind.what === 'load') {
          const versions = loadedVersions()
          areVersionsTold = versions.length > 0
          tell(kind, { versions })
          return
        }
        if (!areVersionsTold && kind.what !== 'probe') {
          areVersionsTold = true
          tell({ what: 'load', phase: 'ended' }, { versions: loadedVersions(), isLate: true })
        }
        tell(kind, plain(message as Record<string, unknown>))
      } catch {
        // Whatever hinders it, the function goes on.
      }
    })
  }
}

/** Each version of this package leaves a mark in the process that uses it. */
const loadedVersions = () =>
  Object.getOwnPropertySymbols(globalThis).flatMap(
    ({ description = '' }) => /^middy-post-invoke\/(\d[^/]*)$/.exec(description)?.[1] ?? [],
  )

/** Errors say nothing as JSON. */
const plain = (message: Record<string, unknown>) => {
  const { error } = message
  if (!('error' in message)) return message
  return { ...message, error: error instanceof Error ? `${error.name}: ${error.message}` : String(error) }
}

const ATTEMPTS = 50
const WAIT_MS = 2

/** Past the console, which runtime clients and loggers patch. Standard error may be full for a moment. */
const writeAll = (text: string) => {
  const fs = process.getBuiltinModule('node:fs')
  let rest = Buffer.from(text)
  for (let attempt = 0; rest.length > 0 && attempt < ATTEMPTS; attempt += 1) {
    try {
      rest = rest.subarray(fs.writeSync(2, rest))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, WAIT_MS)
    }
  }
}

main()
