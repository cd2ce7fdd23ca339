// Which companion keeps the environment awake after the response, decided once, at init; and what it is told.
import { builtIn } from '../built-in.ts'
import { finishedLines, type Log, type LogFields } from '../log.ts'
import { type CompanionMode, isManagedInstances, readFolder } from '../variables.ts'
import { version } from '../version.ts'
import { type CompanionPipe, createLastWords, openPipe, PROTOCOL, pipePath, startCompanion } from './companion-pipe.ts'
import { endProcess } from './end-process.ts'

/** What the middleware asks of a companion, whichever it is. */
export type Companion = {
  /** For the log alone. */
  readonly name: 'layer' | 'internal' | 'gate' | 'none'
  /** Whether Lambda sends SIGTERM to the function's process on its account. */
  readonly bringsSigterm: boolean
  /** Whether an invocation is held by the promise that `InvokeStore.run` returns, and by nothing else. */
  readonly isGate: boolean
  /** Whether it is an external extension, the layer. It runs what was handed off, and shortens the shutdown. */
  readonly isTheLayer: boolean
  /** Whether tasks of an invocation that begins now can run after its response. If not, they are awaited before it. */
  holds(isGated: boolean): boolean
  /**
   * @param deadline - The function's, in milliseconds since the epoch.
   * @param tenantId - Of the request, for the log, where the function isolates tenants.
   * @returns `undefined` for the gate and without a companion: there is no process to write to.
   */
  reporter(requestId: string, deadline: () => number, tenantId?: string): Reporter | undefined
  /** This function hands work off. */
  expectHandedOff(): void
}

/** Reports one invocation to the companion's process. */
export type Reporter = {
  /** What would be lost if this process were killed now. Before the response has left, too. */
  wouldLose(names: readonly string[], list: string): void
  /** The response has left, and tasks begin to run. */
  hold(): void
  /** The response has left, and nothing is left to do. */
  settle(): void
}

export type CompanionChoice = {
  mode: CompanionMode
  log: Log
  /** Whether the runtime client's own promise can hold (RIC 4), and whether it tells the end of each invocation. */
  client: { readonly hasGate?: boolean; readonly tellsEnds?: boolean }
  isMainThread: boolean
  variables: Readonly<Record<string, string | undefined>>
}

const LAYER_FILE = '/opt/extensions/post-invoke'

/**
 * @returns a companion. Its name is `none` outside Lambda and on Managed Instances, where nothing freezes, and when none can
 * be had. Only in the last case does `holds()` say `false`.
 */
export function chooseCompanion(choice: CompanionChoice): Companion {
  const { mode, log, client, variables, isMainThread } = choice
  if (variables.AWS_LAMBDA_RUNTIME_API === undefined || isManagedInstances(variables)) {
    return companionOf(() => true) // never frozen: tasks run after the response all by themselves
  }
  if (mode === 'off') return noCompanion()
  if (!isMainThread) return companionOf(holdsInWorker)
  if (mode === 'auto' || mode === 'layer') {
    const layer = useLayer(choice)
    if (layer) return layer
    if (mode === 'layer') return noCompanion()
  }
  if (mode === 'internal' || !client.hasGate) {
    // Spelled out, here and in process-end.ts: a bundler that knows the variable leaves the whole script out.
    const internal = process.env.POST_INVOKE_COMPANION === 'layer' ? undefined : startInternalExtension(choice)
    return internal ?? noCompanion()
  }
  return companionOf(holdsByGate, true)

  function holdsInWorker() {
    log.warnOnce('WARN_WORKER_THREAD', 'a worker thread has no companion')
    return false
  }
  function holdsByGate(isGated: boolean) {
    if (!isGated) log.warnOnce('WARN_GATE', 'this invocation runs outside InvokeStore.run')
    return isGated
  }
}

const noop = () => {}

/** One without a process. */
const companionOf = (holds: Companion['holds'], isGate = false): Companion => ({
  name: isGate ? 'gate' : 'none',
  bringsSigterm: false,
  isGate,
  isTheLayer: false,
  holds,
  reporter: noop as () => undefined,
  expectHandedOff: noop,
})

/** Where nothing holds. */
export const noCompanion = (): Companion => companionOf(() => false)

/** The layer's pipe is there before the runtime starts. Without one there is no layer, or none that we could talk to. */
function useLayer(choice: CompanionChoice): Companion | undefined {
  const { mode, log, variables } = choice
  const path = companionPath(variables)
  const pipe = openPipe(path, () => log.warnOnce('WARN_LAYER_GONE', "the layer's companion is gone"))
  if (typeof pipe !== 'string') return isClaimedByOther(log) ? noCompanion() : tellingBy(pipe, choice, true)
  if (mode !== 'layer' && !builtIn('node:fs').existsSync(LAYER_FILE)) return undefined
  const other = protocolBeside(path)
  if (other === undefined) log.warnOnce('WARN_NO_LAYER', `the layer's companion cannot be reached (${pipe})`)
  else {
    log.warnOnce('WARN_LAYER_VERSION', `the layer speaks protocol ${other}, the package ${PROTOCOL}`)
  }
  return undefined
}

/** @returns the protocol of a layer of another version, which is in the name of its pipe. */
function protocolBeside(path: string): string | undefined {
  try {
    const [, folder, start, port] = /^(.*)\/(.+-)\d+(-\d+)$/.exec(path) as unknown as [string, string, string, string]
    return builtIn('node:fs')
      .readdirSync(folder)
      .filter(name => name.startsWith(start) && name.endsWith(port))
      .map(name => name.split('-')[3])
      .find(protocol => protocol !== String(PROTOCOL))
  } catch {
    return undefined
  }
}

function startInternalExtension(choice: CompanionChoice): Companion | undefined {
  const { log, variables } = choice
  if (isClaimedByOther(log)) return undefined
  const pipe = startCompanion('"INVOKE"', variables.AWS_LAMBDA_RUNTIME_API as string, () =>
    // Lambda cannot see that it is gone, and would wait for it in each invocation.
    log.warnOnce('WARN_INTERNAL_GONE', 'the internal extension is gone: this process ends after its next answer'),
  )
  if (typeof pipe !== 'string') return tellingBy(pipe, choice, false)
  log.warnOnce('WARN_NOT_REGISTERED', `no internal extension could be registered (${pipe})`)
  return undefined
}

/**
 * Registers an extension for nothing: Lambda sends SIGTERM to a process beside which there is one, and to no other.
 * https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
 *
 * @returns why that failed, or `undefined`.
 */
export const registerForSigterm = (runtimeApi: string): string | undefined => {
  const pipe = startCompanion('', runtimeApi, noop)
  return typeof pipe === 'string' ? pipe : undefined
}

const companionPath = (variables: CompanionChoice['variables']) =>
  pipePath(readFolder(variables), variables.AWS_LAMBDA_RUNTIME_API as string)

const PIPE_OWNER = Symbol.for('middy-post-invoke/companion')

/** Claims the companion for this version: it counts the invocations of one writer, and two would release each other's. */
function isClaimedByOther(log: Log): boolean {
  const global = globalThis as { [PIPE_OWNER]?: string }
  global[PIPE_OWNER] ??= version
  if (global[PIPE_OWNER] === version) return false
  log.warnOnce(
    'WARN_TWO_VERSIONS',
    `version ${global[PIPE_OWNER]} in the same process uses the companion, not ${version}`,
  )
  return true
}

function tellingBy(pipe: CompanionPipe, choice: CompanionChoice, isLayer: boolean): Companion {
  const { log, variables, client } = choice
  const lastWords = createLastWords(`${companionPath(variables)}.tasks`, reason =>
    log.warnOnce('WARN_LAST_WORDS', `last words cannot be written (${reason})`),
  )
  const line = finishedLines()
  let count = 0
  let begun = 0
  /** Whose last words stand there. An earlier invocation that ends late must not touch them. */
  let author = 0
  pipe.write(client.tellsEnds ? 'open\n' : 'watch\n')

  return {
    name: isLayer ? 'layer' : 'internal',
    bringsSigterm: true,
    isGate: false,
    isTheLayer: isLayer,
    holds: () => !pipe.isBroken(),
    expectHandedOff: () => isLayer && pipe.write('work\n'),
    reporter(requestId, deadline, tenantId) {
      let number: number | undefined
      // Numbered at their first line: the script ignores what is not above the last number released.
      function itsNumber() {
        number ??= ++count
        return number
      }
      const order = ++begun
      return {
        wouldLose(tasks, list) {
          if (author > order) return
          author = order
          const fields = { requestId, tenantId, tasks } as LogFields // what is undefined is not in a line
          lastWords(
            list &&
              line(`the function's process ended in the middle of request ${requestId}; unfinished: ${list}`, fields) +
                line(`released request ${requestId} before its deadline; unfinished: ${list}`, fields),
          )
        },
        hold() {
          pipe.write(`hold ${itsNumber()} ${Math.round(deadline())}\n`)
        },
        settle() {
          if (author <= order) lastWords('')
          pipe.write(`settled ${itsNumber()} ${/[\w-]{0,8}/.exec(requestId)}\n`)
          if (pipe.isBroken() && !isLayer && client.tellsEnds) endProcess()
        },
      }
    },
  }
}
