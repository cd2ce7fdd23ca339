// `post-invoke invoke`: runs a person's own handler in the sandbox, and shows when what happens.
import { writeFileSync } from 'node:fs'
import { type Command, Option } from 'commander'
import { createSandbox, type InvocationReport, type Sandbox, SandboxError } from '../sandbox/index.ts'
import { version } from '../version.ts'
import { CommandError, EXIT_FAILED, Interrupted } from './errors.ts'
import { readEvent } from './event.ts'
import { readVariables } from './function-variables.ts'
import { findHandler, HANDLER_ARGUMENT } from './handler-file.ts'
import { createLive, DETAILED } from './live.ts'
import { createMoments, type Moment } from './moments.ts'
import { layerFolder } from './package-files.ts'
import { failuresOf, type InvocationRun, type Run, summarize } from './run.ts'
import { findRuntime, type Runtime } from './runtime.ts'
import { STRIP_HINT, type StagedHandler, stageHandler } from './stage.ts'
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
  const run = await runHandler(staged, event, { ...options, variables, runtime, ...live })
  live?.end()

  const failures = failuresOf(run)
  const last = run.invocations.at(-1)
  if (svg !== undefined && last) writeFileSync(svg, drawSvg(last))
  if (json) console.log(JSON.stringify(toJson(given, options, run, failures), rounded, 2))
  else {
    if (options.count > DETAILED) console.log(`\n${summarizeTimes(run.invocations)}`)
    if (svg !== undefined) console.log(`\n${svg}: the last invocation as a picture`)
    if (run.companion === undefined && variables.POST_INVOKE_LOG_LEVEL === undefined) console.log(`\n${NOT_LOADED}`)
    const result = failures.length > 0 ? styled('red', failures.join('\n')) : styled('green', successOf(run))
    console.log(`\n${result}`)
  }
  return failures.length > 0 ? EXIT_FAILED : 0
}

const HOW = { plain: [], esbuild: ["bundled with the project's esbuild"], 'strip-types': ['types stripped by Node.js'] }

const NOT_LOADED = 'The handler has not called postInvoke(): nothing that it defers would run after its response.'

export type RunHandlerOptions = {
  readonly layer?: boolean
  readonly timeout: number
  readonly freeze?: boolean
  readonly count: number
  readonly variables: Readonly<Record<string, string>>
  readonly runtime?: Runtime | undefined
  onMoment?(moment: Moment): void
  onInvocation?(run: InvocationRun): void
}

/**
 * Runs it as often as it is asked to, and ends its environment. What it staged is removed.
 *
 * @throws CommandError when its Init fails.
 */
const runHandler = async (staged: StagedHandler, event: unknown, options: RunHandlerOptions): Promise<Run> => {
  const { variables, runtime } = options
  const moments = createMoments(options.onMoment)
  const reports: InvocationReport[] = []
  let sandbox: Sandbox | undefined
  const interrupts = watchInterrupts(() => sandbox?.[Symbol.asyncDispose]())
  try {
    sandbox = await createSandbox({
      taskRoot: staged.taskRoot,
      handler: staged.handler,
      ...runtime?.options(staged.handler),
      layers: options.layer ? [layerFolder] : [],
      timeout: options.timeout * 1_000,
      freeze: options.freeze,
      environment: {
        POST_INVOKE_LOG_LEVEL: 'DEBUG', // it says which companion was chosen
        POST_INVOKE_COMPANION: options.layer ? 'layer' : 'embedded',
        ...variables,
        ...moments.variables([...staged.nodeOptions, variables.NODE_OPTIONS].filter(Boolean).join(' ')),
      },
      onEvent: moments.onEvent,
      onLog: moments.onLog,
    })
    for (let index = 0; index < options.count; index += 1) {
      const report = await sandbox.invoke(event)
      interrupts.check()
      moments.flush()
      reports.push(report)
      const { invocations } = summarize(moments.all, [report])
      for (const run of invocations) options.onInvocation?.(run)
    }
    await sandbox.shutdown()
    interrupts.check()
    moments.flush()
    return summarize(moments.all, reports)
  } catch (error) {
    moments.flush()
    if (!(error instanceof SandboxError) || error.code !== 'INIT_FAILED') throw error
    const hint = staged.how === 'strip-types' && STRIP_ERRORS.test(error.message) ? `\n${STRIP_HINT}` : ''
    // The lines that the function wrote have been shown already, where anything is.
    const message = options.onMoment ? error.message.split('\nLast lines written:')[0] : error.message
    throw new CommandError(`${message}${hint}`)
  } finally {
    interrupts.end()
    await sandbox?.[Symbol.asyncDispose]()
    staged.remove()
  }
}

const STRIP_ERRORS =
  /ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX|ERR_MODULE_NOT_FOUND|ERR_UNSUPPORTED_DIR_IMPORT|ERR_UNKNOWN_FILE_EXTENSION/

/** Ctrl+C: processes of the sandbox are in groups of their own, and would not notice. A second one ends us at once. */
const watchInterrupts = (dispose: () => PromiseLike<void> | undefined) => {
  let code: number | undefined
  const listeners = Object.entries({ SIGINT: 130, SIGTERM: 143 }).map(([signal, exitCode]) => {
    const listener = () => {
      code = exitCode
      // While there is no sandbox yet, its watchdog ends what it has started when we are gone.
      if (dispose() === undefined) process.exit(exitCode)
    }
    process.once(signal, listener)
    return [signal, listener] as const
  })
  return {
    /** @throws Interrupted once a signal has come. */
    check() {
      if (code !== undefined) throw new Interrupted(code)
    },
    end() {
      for (const [signal, listener] of listeners) process.off(signal, listener)
    },
  }
}

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
