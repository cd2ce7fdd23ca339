// `post-invoke invoke`: runs a person's own handler in the sandbox, and shows when what happens.
import { writeFileSync } from 'node:fs'
import { type Command, Option } from 'commander'
import { version } from '../version.ts'
import { EXIT_FAILED } from './errors.ts'
import { readEvent } from './event.ts'
import { readVariables } from './function-variables.ts'
import { findHandler, HANDLER_ARGUMENT } from './handler-file.ts'
import { createLive, DETAILED } from './live.ts'
import { failuresOf, type Run } from './run.ts'
import { runHandler } from './run-handler.ts'
import { findRuntime } from './runtime.ts'
import { stageHandler } from './stage.ts'
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
    .option('--runtime <package>', "AWS's own runtime client, installed: its name (aws-lambda-ric) or folder")
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
  const runtime = options.runtime === undefined ? undefined : findRuntime(options.runtime, handler.project)
  const staged = await stageHandler(handler, options)
  const live = json ? undefined : createLive({ count: options.count, timeout: options.timeout * 1_000 })
  const companion = options.layer ? 'with the layer' : 'embedded'
  live?.heading(
    [
      `${given}: ${companion}`,
      `timeout ${options.timeout} s`,
      ...(runtime ? [runtime.name] : []),
      ...HOW[staged.how],
    ].join(', '),
  )
  const run = await runHandler(staged, event, {
    ...options,
    variables,
    runtime,
    isWatched: live !== undefined,
    ...live,
  })
  live?.end()

  const failures = failuresOf(run)
  const last = run.invocations.at(-1)
  if (svg !== undefined && last) writeFileSync(svg, drawSvg(last))
  if (json) console.log(JSON.stringify(toJson(given, options, run, failures), rounded, 2))
  else {
    if (options.count > DETAILED) console.log(`\n${summarizeTimes(run.invocations)}`)
    if (svg !== undefined) console.log(`\n${svg}: the last invocation as a picture`)
    if (run.versions.length === 0) console.log(`\n${NOT_LOADED}`)
    const result = failures.length > 0 ? styled('red', failures.join('\n')) : styled('green', successOf(run))
    console.log(`\n${result}`)
  }
  return failures.length > 0 ? EXIT_FAILED : 0
}

const HOW = { plain: [], esbuild: ["bundled with the project's esbuild"], 'strip-types': ['types stripped by Node.js'] }

const NOT_LOADED =
  'The handler has called neither postInvoke() nor withPostInvoke(): nothing of it runs after its response.'

const successOf = ({ invocations, shutdown }: Run): string => {
  const tasks = invocations.reduce((sum, { tasks }) => sum + tasks.length, 0) + shutdown.tasks.length
  const what = invocations.length === 1 ? 'The invocation' : `All ${invocations.length} invocations`
  return `${what} succeeded, ${tasks === 0 ? 'and no task was deferred' : `and ${tasks === 1 ? 'the deferred task' : `all ${tasks} deferred tasks`} ended`}.`
}

/** Microseconds are as exact as it gets. */
const rounded = (_: string, value: unknown) => (typeof value === 'number' ? Number(value.toFixed(3)) : value)

/** What `--json` prints. Fields may be added. */
const toJson = (
  given: string,
  { timeout, layer = false, freeze = false }: InvokeOptions,
  run: Run,
  failures: readonly string[],
) => ({
  version,
  handler: given,
  timeout: timeout * 1_000,
  layer,
  freeze,
  ok: failures.length === 0,
  failures,
  ...run,
})
