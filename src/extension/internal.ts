// The internal extension: the function's own process, registered for INVOKE beside its runtime client.

import type { Log } from '../log.ts'
import { type Companion, withoutCompanionApplies } from './companion.ts'
import { createExtensionsApi } from './extensions-api.ts'
import { Holds, runHoldLoop } from './hold.ts'
import registerScript from './register.sh'

/** Not the layer's: a name that is also a file in /opt/extensions would be taken for that file's. */
const NAME = 'middy-post-invoke'

const REGISTER_MS = 2_000

/**
 * Registers, synchronously: registration closes when the runtime client asks for its first invocation, and that happens
 * on a native thread which an asynchronous registration from here does not overtake.
 *
 * @returns the companion, or `undefined` (and a warning) when registration is refused or bash is missing.
 */
export const registerInternalExtension = (runtimeApi: string, log: Log): Companion | undefined => {
  const { spawnSync } = process.getBuiltinModule('node:child_process')
  // --norc -p, in this order, no standard input and a bare environment: no start-up file of others runs here.
  const { stdout, stderr, error, status } = spawnSync(
    '/bin/bash',
    ['--norc', '-p', '-c', registerScript, 'register.sh', NAME, '"INVOKE"'],
    {
      env: { AWS_LAMBDA_RUNTIME_API: runtimeApi },
      stdio: ['ignore', 'pipe', 'pipe'],
      encoding: 'utf8',
      timeout: REGISTER_MS,
      killSignal: 'SIGKILL',
    },
  )
  const identifier = stdout?.trim()
  if (status !== 0 || !identifier) {
    const reason = error?.message ?? (stderr.trim() || `bash ended with ${status}`)
    log.warnOnce('register', `no internal extension could be registered (${reason}): ${withoutCompanionApplies}`)
    return undefined
  }

  const holds = new Holds()
  let works = true
  // getBuiltinModule, not import: an ESM import of node:http loads the built-in undici for its named exports.
  const api = createExtensionsApi(runtimeApi, process.getBuiltinModule('node:http'), { ref: false })
  // Everything is unref'd: the runtime client's own wait keeps the process, and RIC 3 takes an event loop that we keep
  // busy for a handler that is not done.
  runHoldLoop({
    api,
    identifier,
    log,
    ref: false,
    async onInvoke({ requestId, deadline }) {
      if ((await holds.hold(requestId, deadline, false)) === 'capped') {
        log.error(`released request ${requestId} before its deadline although it has not settled`)
      }
    },
    onConnection(isBack) {
      works = isBack
      if (!works) log.warnOnce('connection', `no events from Lambda; until they come, ${withoutCompanionApplies}`)
    },
  })
  return {
    kind: 'internal',
    holds: () => works,
    ready: () => undefined,
    tasks: () => undefined,
    settle: requestId => holds.settle(requestId),
  }
}
