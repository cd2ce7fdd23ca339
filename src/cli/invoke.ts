// `post-invoke invoke`: runs a person's own handler in the sandbox, and shows when what happens.
import { writeFileSync } from 'node:fs'
import { type Command, Option } from 'commander'
import { version } from '../version.ts'
import { requireNode } from './checks.ts'
import { CommandError, EXIT_FAILED, InitFailed } from './errors.ts'
import { readEvent } from './event.ts'
import { readVariables } from './function-variables.ts'
import { findHandler, HANDLER_ARGUMENT } from './handler-file.ts'
import { createLive, DETAILED } from './live.ts'
import { prepareFile } from './out-file.ts'
import { failuresOf, type Run } from './run.ts'
import { runHandler } from './run-handler.ts'
import { findRuntime, RUNTIME_OPTION, type Runtime } from './runtime.ts'
import { type StagedHandler, stageHandler } from './stage.ts'
import { drawSvg } from './svg.ts'
import { styled } from './terminal.ts'
import { summarizeTimes } from './times.ts'
import { collect, count, seconds } from './values.ts'

type InvokeOptions = {
  readonly event: string
  readonly layer?: boolean
  readonly embedded?: boolean
  readonly timeout: number
  readonly freeze?: boolean
  readonly count: number
  readonly env: readonly string[]
  readonly envFrom: readonly string[]
  readonly runtime?: string
  readonly bundle: boolean
  readonly json?: boolean
  readonly svg?: string
}

export const addInvokeCommand = (program: Command, finish: (code: number) => void) => {
  program
    .command('invoke')
    .summary('run your handler in a local Lambda, with a timeline')
    .description(
      'Runs your handler in a local Lambda, and shows when its response leaves and when its deferred tasks run.',
    )
    .argument('<file>', HANDLER_ARGUMENT)
    .option('-e, --event <event>', 'the event: a file, JSON, or - for the standard input', '{}')
    .addOption(new Option('--layer', 'attach the layer').conflicts('embedded'))
    .option('--embedded', "attach nothing: the function's own process is the companion (default)")
    .option('--timeout <seconds>', "the function's timeout", seconds, 3)
    .option('--freeze', 'freeze all processes between invocations, as Lambda does')
    .option('-n, --count <number>', 'how many invocations, one after the other', count, 1)
    .option('--env <name=value>', "a variable of the function; NAME alone takes this shell's value", collect, [])
    .option('--env-from <file>', 'a file of such variables, as .env', collect, [])
    .option('--runtime <runtime>', RUNTIME_OPTION)
    .option('--no-bundle', 'leave TypeScript to Node.js, also where the project has esbuild')
    .option('--json', 'print JSON, when all is over')
    .option('--svg <file>', 'draw the last invocation as a picture')
    .addHelpText('after', EXAMPLES)
    .action(async (given: string, options: InvokeOptions) => finish(await invoke(given, options)))
}

const EXAMPLES = `
Examples:
  npx middy-post-invoke invoke src/handler.ts --event event.json
  npx middy-post-invoke invoke dist/index.create --layer --freeze --count 2
  echo '{"body":"tea"}' | npx middy-post-invoke invoke handler.ts -e - --json`

const invoke = async (given: string, options: InvokeOptions): Promise<number> => {
  const { json = false, svg } = options
  const handler = findHandler(given)
  const event = readEvent(options.event)
  const variables = readVariables(options.envFrom, options.env)
  const runtime = findRuntime(options.runtime, handler.project)
  if (svg !== undefined) prepareFile('--svg', svg)
  const started = { given, options, event, variables, runtime }
  try {
    requireNode(process.versions.node)
    const staged = await stageHandler(handler, options)
    return json ? await printJson(staged, started) : await show(staged, started)
  } catch (error) {
    if (!json || !(error instanceof CommandError)) throw error
    const run = error instanceof InitFailed ? error.run : EMPTY_RUN
    const failures = error instanceof InitFailed ? failuresOf(run) : [error.message]
    console.log(JSON.stringify(toJson(started, run, failures), rounded, 2))
    return EXIT_FAILED
  }
}

type Started = {
  readonly given: string
  readonly options: InvokeOptions
  readonly event: unknown
  readonly variables: Readonly<Record<string, string>>
  readonly runtime: Runtime
}

const printJson = async (staged: StagedHandler, started: Started): Promise<number> => {
  const { options, event, variables, runtime } = started
  const run = await runHandler(staged, event, { ...options, variables, runtime })
  const failures = failuresOf(run)
  draw(options.svg, run)
  console.log(JSON.stringify(toJson(started, run, failures), rounded, 2))
  return failures.length > 0 ? EXIT_FAILED : 0
}

const show = async (staged: StagedHandler, { given, options, event, variables, runtime }: Started): Promise<number> => {
  const { svg } = options
  const live = createLive({ count: options.count, timeout: options.timeout * 1_000 })
  const companion = options.layer ? 'with the layer' : 'embedded'
  live.heading([`${given}: ${companion}`, `timeout ${options.timeout} s`, runtime.name, ...HOW[staged.how]].join(', '))
  const run = await runHandler(staged, event, {
    ...options,
    variables,
    runtime,
    isWatched: true,
    oneStream: options.count <= DETAILED,
    ...live,
  })
  live.end()
  draw(svg, run)

  const failures = failuresOf(run)
  if (options.count > DETAILED) console.log(`\n${summarizeTimes(run.invocations)}`)
  if (svg !== undefined) console.log(`\n${svg}: the last invocation as a picture`)
  const note = noteOn(run)
  if (note !== undefined) console.log(`\n${note}`)
  console.log(`\n${failures.length > 0 ? styled('red', failures.join('\n')) : styled('green', successOf(run))}`)
  return failures.length > 0 ? EXIT_FAILED : 0
}

const draw = (svg: string | undefined, { invocations }: Run) => {
  const last = invocations.at(-1)
  if (svg !== undefined && last) writeFileSync(svg, drawSvg(last))
}

const EMPTY_RUN: Run = {
  versions: [],
  init: {},
  invocations: [],
  shutdown: { tasks: [], hooks: [], handedOff: [], faults: [], notRun: [] },
}

const HOW = { plain: [], esbuild: ["bundled with the project's esbuild"], 'strip-types': ['types stripped by Node.js'] }

/** What a person should know of how the handler uses this package, beside what went wrong. */
const noteOn = ({ versions, calledLate, companion, invocations }: Run): string | undefined => {
  if (calledLate || (versions.length === 0 && companion !== undefined)) return CALLED_LATE
  if (versions.length > 0 || invocations.some(({ tasks }) => tasks.length > 0)) return undefined
  return NOT_LOADED
}

const NOT_LOADED =
  'The handler has called neither postInvoke() nor withPostInvoke(): nothing of it runs after its response.'
const CALLED_LATE =
  'postInvoke() or withPostInvoke() was first called inside an invocation: its tasks may have run before its response. Call it at module level.'

const successOf = ({ invocations, shutdown }: Run): string => {
  const parts = [...invocations, shutdown]
  const tasks = parts.reduce((sum, { tasks }) => sum + tasks.length, 0)
  const done = parts.flatMap(({ handedOff }) => handedOff).filter(({ status }) => status === 'done').length
  const what = invocations.length === 1 ? 'The invocation' : `All ${invocations.length} invocations`
  const ended = tasks === 1 ? 'the deferred task ended' : `all ${tasks} deferred tasks ended`
  const work = `${done} ${done === 1 ? 'piece of handed-off work was' : 'pieces of handed-off work were'} done`
  const results = [...(tasks > 0 ? [ended] : []), ...(done > 0 ? [work] : [])]
  return `${what} succeeded, and ${results.length === 0 ? 'no task was deferred' : results.join(', and ')}.`
}

/** Microseconds are as exact as it gets. */
const rounded = (_: string, value: unknown) => (typeof value === 'number' ? Number(value.toFixed(3)) : value)

/** What `--json` prints. Fields may be added. */
const toJson = (
  { given, options: { timeout, layer = false, freeze = false }, runtime }: Started,
  run: Run,
  failures: readonly string[],
) => ({
  version,
  handler: given,
  runtime: runtime.lambda,
  timeout: timeout * 1_000,
  layer,
  freeze,
  ok: failures.length === 0,
  failures,
  ...run,
})
