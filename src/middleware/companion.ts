// Which companion keeps the environment awake after the response, decided once, at init.
import { builtIn } from '../built-in.ts'
import type { Log } from '../log.ts'
import { type CompanionMode, readFolder } from '../variables.ts'
import { version } from '../version.ts'
import { openOwn, PROTOCOL, pipePath, type Script, startScript } from './companion-pipe.ts'
import { type Companion, createCompanion } from './companion-process.ts'
import type { RuntimeClient } from './runtime-client.ts'

/** Where nothing holds, or has to. */
export const noCompanion: Companion = { name: 'none' }

const LAYER_FILE = '/opt/extensions/post-invoke'

const PIPE_OWNER = Symbol.for('middy-post-invoke/companion')

/**
 * @param client - One without `isGated` has no gate, one without `runOf` tells no ends.
 * @param runtimeApi - `undefined` where nothing is ever frozen: outside Lambda and on Managed Instances.
 */
export function chooseCompanion(
  log: Pick<Log, 'warnOnce' | 'line'>,
  client: Pick<RuntimeClient, 'isGated' | 'runOf'>,
  isMainThread: boolean,
  runtimeApi: string | undefined,
  mode: CompanionMode,
): Companion {
  const { warnOnce } = log
  if (runtimeApi === undefined || mode === 'off') return noCompanion
  if (!isMainThread) {
    return { name: 'none', warnUnheld: () => warnOnce('WARN_WORKER_THREAD', 'a worker thread has no companion') }
  }
  const folder = readFolder()
  const path = pipePath(folder, runtimeApi)
  let fd: number | undefined
  let socket: Script | undefined
  if (mode === 'auto' || mode === 'layer') {
    try {
      // It is there before the runtime starts. Without it there is no layer, or none that we could talk to.
      fd = openOwn(path, true)
    } catch (error) {
      sayWhyNoLayer(runtimeApi, (error as Error).message)
      if (mode === 'layer') return noCompanion
    }
  }
  if (fd === undefined && mode !== 'internal' && client.isGated) {
    return {
      name: 'gate',
      warnUnheld: () => warnOnce('WARN_GATE', 'this invocation runs outside InvokeStore.run'),
    }
  }
  // The companion counts the invocations of one writer: two would release each other's.
  const global = globalThis as { [PIPE_OWNER]?: string }
  global[PIPE_OWNER] ??= version
  const owner = global[PIPE_OWNER]
  if (owner !== version) {
    warnOnce('WARN_TWO_VERSIONS', `version ${owner} in the same process uses the companion, not ${version}`)
    return noCompanion
  }
  const words = `${path}.tasks`
  // Spelled out, here and in process-end.ts: a bundler that knows the variable leaves the whole script out.
  if (process.env.POST_INVOKE_COMPANION !== 'layer' && fd === undefined) {
    try {
      socket = startScript('"INVOKE"', runtimeApi, words)
      fd = socket._handle.fd
    } catch (error) {
      warnOnce('WARN_NOT_REGISTERED', `no internal extension could be registered (${(error as Error).message})`)
    }
  }
  return fd === undefined ? noCompanion : createCompanion(fd, socket, words, log, !!client.runOf)

  /** Nothing, where none is attached or asked for. */
  function sayWhyNoLayer(api: string, reason: string): void {
    const { existsSync } = builtIn('node:fs')
    if (mode !== 'layer' && !existsSync(LAYER_FILE)) return
    const hasPipe = (other: number) => other !== PROTOCOL && existsSync(pipePath(folder, api, other))
    const other = [...Array(10).keys()].find(hasPipe)
    if (other === undefined) warnOnce('WARN_NO_LAYER', `the layer's companion cannot be reached (${reason})`)
    else warnOnce('WARN_LAYER_VERSION', `the layer speaks protocol ${other}, the package ${PROTOCOL}`)
  }
}
