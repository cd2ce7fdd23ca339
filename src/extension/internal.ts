// The internal extension: the function's own process, registered beside its runtime client.
import type { Log } from '../log.ts'
import { type Companion, withoutCompanionApplies } from './companion.ts'
import { createExtensionsApi, type ExtensionsApi, type Subscription } from './extensions-api.ts'
import { Holds, runHoldLoop } from './hold.ts'
import registerScript from './register.sh'

/** Not the layer's: a name that is also a file in /opt/extensions would be taken for that file's. */
const NAME = 'middy-post-invoke'

const REGISTER_MS = 2_000

/**
 * Registers for INVOKE, so that the process holds its own environment.
 *
 * @returns the companion, or `undefined` (and a warning) when registration is refused or bash is missing.
 */
export const registerInternalExtension = (runtimeApi: string, log: Log): Companion | undefined => {
  const { identifier, reason } = register(runtimeApi, ['INVOKE'])
  if (identifier === undefined) {
    log.warnOnce('register', `no internal extension could be registered (${reason}): ${withoutCompanionApplies}`)
    return undefined
  }

  const holds = new Holds()
  let works = true
  runHoldLoop({
    api: openApi(runtimeApi),
    identifier,
    log,
    ref: false,
    async onInvoke({ requestId, deadline }) {
      if ((await holds.hold(requestId, deadline, false)) === 'capped') {
        log.error(`released request ${requestId} before its deadline although it has not settled`, undefined, {
          requestId,
        })
      }
    },
    onConnection(isBack) {
      works = isBack
      if (!works) log.warnOnce('connection', `no events from Lambda; until they come, ${withoutCompanionApplies}`)
    },
  })
  return {
    kind: 'internal',
    bringsSigterm: true,
    holds: () => works,
    ready: () => undefined,
    tasks: () => undefined,
    settle: requestId => holds.settle(requestId),
  }
}

/**
 * Registers for nothing: a process beside which an extension is registered gets SIGTERM before it is killed, and one
 * without gets none.
 *
 * @returns why that failed, or `undefined`.
 */
export const registerForSigterm = (runtimeApi: string, log: Log): string | undefined => {
  const { identifier, reason } = register(runtimeApi, [])
  if (identifier === undefined) return reason
  // Init ends when every extension has asked for its first event. Subscribed to nothing, this one is never answered.
  const never = async () => {}
  runHoldLoop({ api: openApi(runtimeApi), identifier, log, ref: false, onInvoke: never })
  return undefined
}

/**
 * Synchronous: registration closes when the runtime client asks for its first invocation, and that happens on a native
 * thread which an asynchronous registration from here does not overtake.
 */
const register = (
  runtimeApi: string,
  events: readonly Subscription[],
): { identifier: string; reason?: undefined } | { identifier?: undefined; reason: string } => {
  const { spawnSync } = process.getBuiltinModule('node:child_process')
  const subscriptions = events.map(event => JSON.stringify(event)).join(',')
  // --norc -p, in this order, no standard input and a bare environment: no start-up file of others runs here.
  const { stdout, stderr, error, status } = spawnSync(
    '/bin/bash',
    ['--norc', '-p', '-c', registerScript, 'register.sh', NAME, subscriptions],
    {
      env: { AWS_LAMBDA_RUNTIME_API: runtimeApi },
      stdio: ['ignore', 'pipe', 'pipe'],
      encoding: 'utf8',
      timeout: REGISTER_MS,
      killSignal: 'SIGKILL',
    },
  )
  const identifier = stdout?.trim()
  if (status === 0 && identifier) return { identifier }
  return { reason: error?.message ?? (stderr.trim() || `bash ended with ${status}`) }
}

/**
 * Nothing is ref'd: the runtime client's own wait keeps the process, and RIC 3 takes an event loop that we keep busy for
 * a handler that is not done.
 */
const openApi = (runtimeApi: string): ExtensionsApi =>
  createExtensionsApi(runtimeApi, process.getBuiltinModule('node:net'), { ref: false })
