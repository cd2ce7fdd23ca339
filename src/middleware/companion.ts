// Which companion keeps the environment awake after the response, decided once, at init; and what it is told.
import { builtIn } from '../built-in.ts'
import type { Log, LogFields } from '../log.ts'
import { type CompanionMode, readFolder } from '../variables.ts'
import { version } from '../version.ts'
import { type CompanionPipe, createLastWords, openPipe, PROTOCOL, pipePath, startCompanion } from './companion-pipe.ts'
import { endProcess } from './end-process.ts'

/** Reports one invocation to the companion's process. */
export type Reporter = {
  /** What would be lost if this process were killed now. Before the response has left, too. */
  wouldLose(names: readonly string[], list: string): void
  /**
   * The response has left, and tasks begin to run.
   *
   * @param left - Milliseconds until the function's deadline.
   */
  hold(left: number): void
  /** The response has left, and nothing is left to do. */
  settle(): void
}

/** What keeps the environment awake. Of the layer's companion and the internal extension there is a process, which is told. */
export type Companion = {
  /** The layer's runs what was handed off. The gate is the promise that `InvokeStore.run` returns, and nothing else. */
  readonly name: 'layer' | 'internal' | 'gate' | 'none'
  /** Whether tasks of an invocation that begins now can run after its response. If not, they are awaited before it. */
  holds(isGated: boolean): boolean
  /**
   * Missing where there is no process to tell. Where there is one it is an extension, and so Lambda sends SIGTERM.
   *
   * @param tenantId - Of the request, for the log, where the function isolates tenants.
   */
  reporter?(requestId: string, tenantId?: string): Reporter
  /** This function hands work off. */
  expectHandedOff?(): void
}

/** Where nothing holds. */
export const noCompanion: Companion = { name: 'none', holds: () => false }

const LAYER_FILE = '/opt/extensions/post-invoke'

/** https://docs.aws.amazon.com/lambda/latest/dg/configuration-timeout.html */
const LONGEST_INVOCATION_MS = 900_000

const PIPE_OWNER = Symbol.for('middy-post-invoke/companion')

/**
 * @param client - Whether its own promise can hold (RIC 4), and whether it tells the end of each invocation.
 * @param runtimeApi - `undefined` where nothing is ever frozen: outside Lambda and on Managed Instances.
 */
export function chooseCompanion(
  { warnOnce, line }: Pick<Log, 'warnOnce' | 'line'>,
  client: { readonly hasGate?: boolean; readonly tellsEnds?: boolean },
  isMainThread: boolean,
  runtimeApi: string | undefined,
  mode: CompanionMode,
): Companion {
  if (runtimeApi === undefined) return { name: 'none', holds: () => true }
  if (mode === 'off') return noCompanion
  if (!isMainThread) return { name: 'none', holds: holdsInWorker }
  const path = pipePath(readFolder(), runtimeApi)
  const words = `${path}.tasks`
  if (mode === 'auto' || mode === 'layer') {
    try {
      // It is there before the runtime starts. Without it there is no layer, or none that we could talk to.
      const pipe = openPipe(path, () => warnOnce('WARN_LAYER_GONE', "the layer's companion is gone"))
      return isClaimedByOther() ? noCompanion : extension('layer', pipe)
    } catch (error) {
      sayWhyNoLayer(runtimeApi, (error as Error).message)
    }
    if (mode === 'layer') return noCompanion
  }
  if (mode !== 'internal' && client.hasGate) return { name: 'gate', holds: holdsByGate }
  // Spelled out, here and in process-end.ts: a bundler that knows the variable leaves the whole script out.
  if (process.env.POST_INVOKE_COMPANION !== 'layer' && !isClaimedByOther()) {
    try {
      const pipe = startCompanion('"INVOKE"', runtimeApi, words, () =>
        // Lambda cannot see that it is gone, and would wait for it in each invocation.
        warnOnce('WARN_INTERNAL_GONE', 'the internal extension is gone: this process ends after its next answer'),
      )
      return extension('internal', pipe)
    } catch (error) {
      warnOnce('WARN_NOT_REGISTERED', `no internal extension could be registered (${(error as Error).message})`)
    }
  }
  return noCompanion

  function holdsInWorker() {
    warnOnce('WARN_WORKER_THREAD', 'a worker thread has no companion')
    return false
  }

  function holdsByGate(isGated: boolean) {
    if (!isGated) warnOnce('WARN_GATE', 'this invocation runs outside InvokeStore.run')
    return isGated
  }

  /** Nothing, where none is attached or asked for. */
  function sayWhyNoLayer(api: string, reason: string): void {
    const { existsSync } = builtIn('node:fs')
    if (mode !== 'layer' && !existsSync(LAYER_FILE)) return
    const hasPipe = (other: number) => other !== PROTOCOL && existsSync(pipePath(readFolder(), api, other))
    const other = [...Array(10).keys()].find(hasPipe)
    if (other === undefined) warnOnce('WARN_NO_LAYER', `the layer's companion cannot be reached (${reason})`)
    else warnOnce('WARN_LAYER_VERSION', `the layer speaks protocol ${other}, the package ${PROTOCOL}`)
  }

  /** Claims the companion for this version: it counts the invocations of one writer, and two would release each other's. */
  function isClaimedByOther(): boolean {
    const global = globalThis as { [PIPE_OWNER]?: string }
    global[PIPE_OWNER] ??= version
    const owner = global[PIPE_OWNER]
    if (owner === version) return false
    warnOnce('WARN_TWO_VERSIONS', `version ${owner} in the same process uses the companion, not ${version}`)
    return true
  }

  function extension(name: 'layer' | 'internal', pipe: CompanionPipe): Companion {
    const lastWords = createLastWords(words, reason =>
      warnOnce('WARN_LAST_WORDS', `last words cannot be written (${reason})`),
    )
    const isLayer = name === 'layer'
    let count = 0
    let begun = 0
    /** Whose last words stand there. An earlier invocation that ends late must not touch them. */
    let author = 0
    pipe.write(client.tellsEnds ? 'open\n' : 'watch\n')
    return {
      name,
      holds: () => !pipe.isBroken(),
      expectHandedOff: () => isLayer && pipe.write('work\n'),
      reporter(id, tenantId) {
        const order = ++begun
        // Numbered at their first line: the script ignores what is not above the last number released.
        let number: number | undefined
        function say(kind: string, rest: unknown) {
          number ??= ++count
          pipe.write(`${kind} ${number} ${rest}\n`)
        }
        return {
          wouldLose(tasks, list) {
            if (author > order) return
            author = order
            const fields = { requestId: id, tenantId, tasks } as LogFields // what is undefined is not in a line
            lastWords(
              list &&
                line(`the function's process ended in the middle of request ${id}; unfinished: ${list}`, fields) +
                  line(`released request ${id} before its deadline; unfinished: ${list}`, fields),
            )
          },
          hold(left) {
            say('hold', Math.round(Date.now() + Math.min(left, LONGEST_INVOCATION_MS)))
          },
          settle() {
            if (author <= order) lastWords('')
            say('settled', /[\w-]{0,8}/.exec(id))
            if (pipe.isBroken() && !isLayer && client.tellsEnds) endProcess()
          },
        }
      },
    }
  }
}

/**
 * Registers an extension for nothing: Lambda sends SIGTERM to a process beside which there is one, and to no other.
 * https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
 *
 * @returns why that failed, or `''`.
 */
export function registerForSigterm(runtimeApi: string): string {
  try {
    startCompanion('', runtimeApi)
    return ''
  } catch (error) {
    return (error as Error).message
  }
}
