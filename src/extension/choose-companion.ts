// Which companion holds the environment of this function's process, decided once, at init.
import type { Log } from '../log.ts'
import type { CompanionMode } from '../variables.ts'
import { type Companion, withoutCompanionApplies } from './companion.ts'
import { registerInternalExtension } from './internal.ts'
import { listenForLayer } from './layer-peer.ts'

export type CompanionChoice = {
  mode: CompanionMode
  log: Log
  /** Whether the runtime client is one whose `InvokeStore.run` can hold (RIC 4), or why it is not. */
  gate: { available: true; anomaly?: undefined } | { available: false; anomaly?: string }
  isMainThread: boolean
  variables: Readonly<Record<string, string | undefined>>
  fileExists: (path: string) => boolean
}

const LAYER_FILE = '/opt/extensions/post-invoke'

/**
 * @returns a companion; kind `none` outside Lambda, where nothing freezes, on Managed Instances likewise, and when none
 * can be had. Only in the last case does `holds()` say `false`.
 */
export const chooseCompanion = (choice: CompanionChoice): Companion => {
  const { mode, log, gate, variables } = choice
  const runtimeApi = variables.AWS_LAMBDA_RUNTIME_API
  if (runtimeApi === undefined || variables.AWS_LAMBDA_MAX_CONCURRENCY !== undefined) return nothingToHold
  if (mode === 'off') return noCompanion
  if (!choice.isMainThread) return inWorkerThread(log)
  if (mode === 'layer' || (mode === 'auto' && choice.fileExists(LAYER_FILE))) return listenForLayer(log, variables)
  if (mode !== 'internal' && gate.available) return theGate(log)
  if (mode !== 'internal' && gate.anomaly) log.warnOnce('gate', `${gate.anomaly}; an internal extension holds instead`)
  return registerInternalExtension(runtimeApi, log) ?? noCompanion
}

const noop = () => undefined

const none = { kind: 'none', bringsSigterm: false, ready: noop, tasks: noop, settle: noop } as const

/** Never frozen: tasks run after the response all by themselves. */
const nothingToHold: Companion = { ...none, holds: () => true }

const noCompanion: Companion = { ...none, holds: () => false }

const inWorkerThread = (log: Log): Companion => ({
  ...none,
  holds() {
    log.warnOnce('thread', `a worker thread has no companion of its own: ${withoutCompanionApplies}`)
    return false
  },
})

/** The hold itself is the promise that `InvokeStore.run` returns: see middleware/runtime-client.ts. */
const theGate = (log: Log): Companion => ({
  ...none,
  kind: 'gate',
  holds({ gated }) {
    if (!gated) {
      log.warnOnce(
        'gate',
        `this invocation runs outside InvokeStore.run, which was to hold the environment: ${withoutCompanionApplies}. POST_INVOKE_COMPANION=internal or the layer avoids this.`,
      )
    }
    return gated
  },
})
