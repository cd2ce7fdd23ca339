// `post-invoke doctor`: looks at a handler and its configuration for what keeps deferred work from running.
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { type Command, Option } from 'commander'
import { version } from '../version.ts'
import { type Check, checkConfiguration, checkNode, checkPackages, problem, requireNode } from './checks.ts'
import { findConfiguration, readConfiguration } from './configuration.ts'
import { CommandError, EXIT_FAILED, UsageError } from './errors.ts'
import { readEvent } from './event.ts'
import { readVariables } from './function-variables.ts'
import { findHandler, HANDLER_ARGUMENT } from './handler-file.ts'
import type { Moment } from './moments.ts'
import { checkProbe } from './probe-checks.ts'
import { runHandler } from './run-handler.ts'
import { findRuntime, RUNTIME_OPTION } from './runtime.ts'
import { stageHandler } from './stage.ts'
import { type Style, styled } from './terminal.ts'
import { collect, seconds } from './values.ts'

type DoctorOptions = {
  readonly config?: string
  readonly function?: string
  readonly event?: string
  readonly layer?: boolean
  readonly embedded?: boolean
  readonly timeout?: number
  readonly env: readonly string[]
  readonly envFrom: readonly string[]
  readonly runtime?: string
  readonly bundle: boolean
  readonly json?: boolean
}

export const addDoctorCommand = (program: Command, finish: (code: number) => void) => {
  program
    .command('doctor')
    .summary('look for what keeps deferred work from running')
    .description(
      "Loads your handler in a local Lambda and reads its function's configuration, and says what keeps deferred work from running. The handler itself is run only with --event.",
    )
    .argument('<file>', HANDLER_ARGUMENT)
    .option('-c, --config <path>', 'template.yaml or serverless.yml (default: the one that is there)')
    .option('-f, --function <name>', "the function's name in it (default: the one with this handler)")
    .option('-e, --event <event>', 'run the handler with this event: a file, JSON, or - for the standard input')
    .addOption(new Option('--layer', 'attach the layer, whatever the configuration says').conflicts('embedded'))
    .option('--embedded', 'attach nothing, whatever the configuration says')
    .option('--timeout <seconds>', "the function's timeout (default: that of the configuration, or 3)", seconds)
    .option('--env <name=value>', "a variable of the function; NAME alone takes this shell's value", collect, [])
    .option('--env-from <file>', 'a file of such variables, as .env', collect, [])
    .option('--runtime <runtime>', `${RUNTIME_OPTION.slice(0, -1)}, after the configuration)`)
    .option('--no-bundle', 'leave TypeScript to Node.js, also where the project has esbuild')
    .option('--json', 'print JSON')
    .action(async (given: string, options: DoctorOptions) => finish(await doctor(given, options)))
}

const doctor = async (given: string, options: DoctorOptions): Promise<number> => {
  const handler = findHandler(given)
  const path = options.config ?? findConfiguration(handler)
  if (options.config !== undefined && !existsSync(options.config)) {
    throw new UsageError(`Expected --config to be a file, got ${JSON.stringify(options.config)}, which is not there.`)
  }
  if (options.function !== undefined && path === undefined) {
    throw new UsageError('Expected a template.yaml or serverless.yml with --function. Name it with --config.')
  }
  const configuration = path === undefined ? undefined : readConfiguration(path, handler, options.function)
  const event = options.event === undefined ? undefined : readEvent(options.event)
  const variables = { ...configuration?.variables, ...readVariables(options.envFrom, options.env) }
  const runtime = findRuntime(options.runtime ?? runnable(configuration?.runtime), handler.project)
  const hasLayer = options.layer ?? (options.embedded ? false : configuration?.layer !== undefined)
  // A hold that does not end shows within the limit as well as within a quarter of an hour.
  const timeout = options.timeout ?? Math.min(configuration?.timeout ?? 3, MAX_PROBE_SECONDS)

  const checks: Check[] = [
    checkNode(process.versions.node),
    ...checkPackages(name => installedVersion(handler.project, name), version),
    ...(path === undefined
      ? []
      : configuration
        ? checkConfiguration(configuration, variables)
        : [unknownFunction(path)]),
  ]
  try {
    requireNode(process.versions.node)
    const staged = await stageHandler(handler, { bundle: options.bundle, probe: { run: event !== undefined } })
    const moments: Moment[] = []
    const run = await runHandler(staged, event ?? {}, {
      layer: hasLayer,
      timeout,
      freeze: true,
      count: 1,
      variables: sandboxVariables(variables),
      runtime,
      onMoment: moment => moments.push(moment),
    })
    checks.push(
      ...checkProbe({ run, moments, timeout, hasLayer, hasEvent: event !== undefined, runtime: runtime.name }),
    )
  } catch (error) {
    if (!(error instanceof CommandError)) throw error
    checks.push(
      problem(
        'load',
        `The handler cannot be loaded. ${error.message}`,
        'Correct this first: nothing else of it can be looked at.',
      ),
    )
  }

  const problems = checks.filter(({ status }) => status === 'problem').length
  const warnings = checks.filter(({ status }) => status === 'warning').length
  if (options.json) console.log(JSON.stringify({ version, handler: given, ok: problems === 0, checks }, null, 2))
  else {
    for (const check of checks) print(check)
    console.log(`\n${plural(problems, 'problem')}, ${plural(warnings, 'warning')}`)
  }
  return problems > 0 ? EXIT_FAILED : 0
}

const MAX_PROBE_SECONDS = 30

const unknownFunction = (path: string): Check => ({
  id: 'function',
  status: 'warning',
  message: `Which function of ${path} has this handler cannot be told`,
  advice: 'Name it with --function.',
})

/** What NODE_OPTIONS names in Lambda's own folders is not here. */
const sandboxVariables = ({
  NODE_OPTIONS,
  ...variables
}: Readonly<Record<string, string>>): Record<string, string> => ({
  ...variables,
  ...(NODE_OPTIONS === undefined || /\/(opt|var)\//.test(NODE_OPTIONS) ? {} : { NODE_OPTIONS }),
})

/** Of an older runtime the configuration's own check says that it cannot be. */
const runnable = (runtime: string | undefined) =>
  Number(/^nodejs(\d+)\.x$/.exec(runtime ?? '')?.[1]) >= 22 ? runtime : undefined

/** Read, not resolved: what a package exports may not include its package.json. */
const installedVersion = (project: string, name: string): string | undefined => {
  const places = createRequire(join(project, 'package.json')).resolve.paths(name) ?? []
  const path = places.map(place => join(place, name, 'package.json')).find(path => existsSync(path))
  if (path === undefined) return undefined
  return JSON.parse(readFileSync(path, 'utf8')).version
}

const SIGNS = { ok: ['green', '✓'], info: ['cyan', 'i'], warning: ['yellow', '!'], problem: ['red', '✗'] } as const

const print = ({ status, message, advice }: Check) => {
  const [style, sign]: readonly [Style, string] = SIGNS[status]
  console.log(`${styled(style, sign)} ${message.replaceAll('\n', '\n  ')}`)
  if (advice !== undefined) console.log(styled('gray', `  ${advice}`))
}

const plural = (count: number, noun: string) => `${count} ${noun}${count === 1 ? '' : 's'}`
