// Which companion keeps the environment awake after the response, decided once, at init; and what it is told.
import { builtIn } from '../built-in.ts'
import { finishedLines, type Log, type LogFields } from '../log.ts'
import { type CompanionMode, isManagedInstances, readFolder } from '../variables.ts'
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

/** What the middleware asks of a companion, whichever it is. This one stands for none, where nothing is ever frozen. */
const unfrozen = {
  /** For the log alone. */
  name: 'none' as 'layer' | 'internal' | 'gate' | 'none',
  /** Whether Lambda sends SIGTERM to the function's process on its account. */
  bringsSigterm: false,
  /** Whether an invocation is held by the promise that `InvokeStore.run` returns, and by nothing else. */
  isGate: false,
  /** Whether it is an external extension, the layer. It runs what was handed off, and shortens the shutdown. */
  isTheLayer: false,
  /** Whether tasks of an invocation that begins now can run after its response. If not, they are awaited before it. */
  holds: (_isGated: boolean): boolean => true,
  /**
   * @param tenantId - Of the request, for the log, where the function isolates tenants.
   * @returns `undefined` for the gate and without a companion: there is no process to write to.
   */
  reporter(_requestId: string, _tenantId?: string): Reporter | undefined {
    return undefined
  },
  /** This function hands work off. */
  expectHandedOff(): void {},
}
export type Companion = Readonly<typeof unfrozen>

/** Where nothing holds. */
export const noCompanion = (): Companion => ({ ...unfrozen, holds: () => false })

export type CompanionChoice = {
  mode: CompanionMode
  log: Log
  /** Whether the runtime client's own promise can hold (RIC 4), and whether it tells the end of each invocation. */
  client: { readonly hasGate?: boolean; readonly tellsEnds?: boolean }
  isMainThread: boolean
  variables: Readonly<Record<string, string | undefined>>
}

const LAYER_FILE = '/opt/extensions/post-invoke'

/** https://docs.aws.amazon.com/lambda/latest/dg/configuration-timeout.html */
const LONGEST_INVOCATION_MS = 900_000

const PIPE_OWNER = Symbol.for('middy-post-invoke/companion')

/**
 * @returns a companion. Its name is `none` outside Lambda and on Managed Instances, where nothing freezes, and when none can
 * be had. Only in the last case does `holds()` say `false`.
 */
export function chooseCompanion(choice: CompanionChoice): Companion {
  const { mode, client, variables, isMainThread } = choice
  const { warnOnce } = choice.log
  const runtimeApi = variables.AWS_LAMBDA_RUNTIME_API as string
  if (runtimeApi === undefined || isManagedInstances(variables)) return unfrozen
  if (mode === 'off') return noCompanion()
  if (!isMainThread) return { ...unfrozen, holds: holdsInWorker }
  const folder = readFolder(variables)
  const path = pipePath(folder, runtimeApi)
  if (mode === 'auto' || mode === 'layer') {
    const layer = useLayer()
    if (layer) return layer
    if (mode === 'layer') return noCompanion()
  }
  if (mode !== 'internal' && client.hasGate) return { ...unfrozen, name: 'gate', isGate: true, holds: holdsByGate }
  // Spelled out, here and in process-end.ts: a bundler that knows the variable leaves the whole script out.
  if (process.env.POST_INVOKE_COMPANION !== 'layer' && !isClaimedByOther()) {
    try {
      const pipe = startCompanion('"INVOKE"', runtimeApi, () =>
        // Lambda cannot see that it is gone, and would wait for it in each invocation.
        warnOnce('WARN_INTERNAL_GONE', 'the internal extension is gone: this process ends after its next answer'),
      )
      return tellingBy(pipe, false)
    } catch (error) {
      warnOnce('WARN_NOT_REGISTERED', `no internal extension could be registered (${(error as Error).message})`)
    }
  }
  return noCompanion()

  function holdsInWorker() {
    warnOnce('WARN_WORKER_THREAD', 'a worker thread has no companion')
    return false
  }

  function holdsByGate(isGated: boolean) {
    if (!isGated) warnOnce('WARN_GATE', 'this invocation runs outside InvokeStore.run')
    return isGated
  }

  /** Its pipe is there before the runtime starts. Without one there is no layer, or none that we could talk to. */
  function useLayer(): Companion | undefined {
    try {
      const pipe = openPipe(path, () => warnOnce('WARN_LAYER_GONE', "the layer's companion is gone"))
      return isClaimedByOther() ? noCompanion() : tellingBy(pipe, true)
    } catch (error) {
      const { existsSync } = builtIn('node:fs')
      if (mode !== 'layer' && !existsSync(LAYER_FILE)) return undefined
      const hasPipe = (other: number) => other !== PROTOCOL && existsSync(pipePath(folder, runtimeApi, other))
      const other = [...Array(10).keys()].find(hasPipe)
      if (other === undefined) {
        warnOnce('WARN_NO_LAYER', `the layer's companion cannot be reached (${(error as Error).message})`)
      } else warnOnce('WARN_LAYER_VERSION', `the layer speaks protocol ${other}, the package ${PROTOCOL}`)
      return undefined
    }
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

  function tellingBy(pipe: CompanionPipe, isTheLayer: boolean): Companion {
    const lastWords = createLastWords(`${path}.tasks`, reason =>
      warnOnce('WARN_LAST_WORDS', `last words cannot be written (${reason})`),
    )
    const line = finishedLines()
    let count = 0
    let begun = 0
    /** Whose last words stand there. An earlier invocation that ends late must not touch them. */
    let author = 0
    pipe.write(client.tellsEnds ? 'open\n' : 'watch\n')
    return {
      name: isTheLayer ? 'layer' : 'internal',
      bringsSigterm: true,
      isGate: false,
      isTheLayer,
      holds: () => !pipe.isBroken(),
      expectHandedOff: () => isTheLayer && pipe.write('work\n'),
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
            if (pipe.isBroken() && !isTheLayer && client.tellsEnds) endProcess()
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
 * @returns why that failed, or `undefined`.
 */
export function registerForSigterm(runtimeApi: string): string | undefined {
  try {
    startCompanion('', runtimeApi, () => {})
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}
