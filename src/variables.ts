// The environment variables that users set, and some of Lambda's. Each is read when it is first needed, most of them at init. A
// wrong value is an error there.
import { builtIn } from './built-in.ts'
import { PostInvokeError, quote } from './errors.ts'

const companionModes = ['auto', 'layer', 'embedded', 'internal', 'off'] as const
export type CompanionMode = (typeof companionModes)[number]

export const logLevels = ['DEBUG', 'INFO', 'WARN', 'ERROR', 'SILENT'] as const
export type LogLevel = (typeof logLevels)[number]

type Variables = Readonly<Record<string, string | undefined>>

/** `POST_INVOKE_COMPANION`: which companion holds the environment. Default `auto`. */
export const readCompanionMode = (
  variables: Variables = { POST_INVOKE_COMPANION: process.env.POST_INVOKE_COMPANION }, // a bundler may know it
): CompanionMode => oneOf('POST_INVOKE_COMPANION', variables, companionModes, 'auto')

/** `POST_INVOKE_LOG_LEVEL`: the least level that is logged. Default `WARN`. */
export const readLogLevel = (variables: Variables = process.env): LogLevel =>
  oneOf('POST_INVOKE_LOG_LEVEL', variables, logLevels, 'WARN')

/** `POST_INVOKE_FOLDER`: where this process and the companion's meet, an absolute path. Default `/tmp`. */
export function readFolder(variables: Variables = process.env): string {
  return absolutePath('POST_INVOKE_FOLDER', variables) ?? '/tmp'
}

/** Whether this is Managed Instances: many invocations at once, never frozen. Extensions do not always get the first variable. */
export const isManagedInstances = (variables: Variables = process.env): boolean =>
  variables.AWS_LAMBDA_MAX_CONCURRENCY !== undefined ||
  variables.AWS_LAMBDA_INITIALIZATION_TYPE === 'lambda-managed-instances'

/**
 * `POST_INVOKE_SPOOL`: the folder in which handed-off work waits, an absolute path. The default is in /tmp, which is the
 * environment's own and survives its processes; outside Lambda it is this process' own.
 */
export function readSpool(variables: Variables = process.env): string {
  const path = absolutePath('POST_INVOKE_SPOOL', variables)
  if (path !== undefined) return path
  return variables.AWS_LAMBDA_RUNTIME_API === undefined
    ? `${variables.TMPDIR ?? '/tmp'}/middy-post-invoke-${process.pid}`
    : '/tmp/middy-post-invoke'
}

/**
 * `POST_INVOKE_JOBS`: the module whose functions are jobs, a file inside the folder of the function's code.
 *
 * @returns the absolute path, or `undefined`.
 */
export function readJobsModule(variables: Variables = process.env): string | undefined {
  const { POST_INVOKE_JOBS: path } = variables
  if (!path) return undefined
  const folder = taskRoot(variables)
  const { resolve, relative, isAbsolute } = builtIn('node:path')
  const file = resolve(folder, path)
  const inside = relative(folder, file)
  const isInside = !isAbsolute(inside) && inside.split('/')[0] !== '..'
  if (isInside && builtIn('node:fs').statSync(file, { throwIfNoEntry: false })?.isFile()) return file
  throw invalidVariable('POST_INVOKE_JOBS', path, `the path of a file inside ${folder}`)
}

/** `POST_INVOKE_HAND_OFF_BUDGET`: how many milliseconds a hold waits for handed-off work. Default: a part of the time left. */
export function readHandOffBudget(variables: Variables = process.env): number | undefined {
  const { POST_INVOKE_HAND_OFF_BUDGET: given } = variables
  if (!given) return undefined
  if (/^\d{1,6}$/.test(given) && Number(given) <= 900_000) return Number(given)
  throw invalidVariable(
    'POST_INVOKE_HAND_OFF_BUDGET',
    given,
    'a whole number of milliseconds from 0 to 900000, or nothing',
  )
}

/** `POST_INVOKE_OVERFLOW_QUEUE_URL`: the queue of SQS for handed-off work that could not be done in time. */
export function readOverflowQueue(variables: Variables = process.env): string | undefined {
  const { POST_INVOKE_OVERFLOW_QUEUE_URL: url } = variables
  if (!url) return undefined
  if (/^https?:$/.test(URL.parse(url)?.protocol ?? '')) return url
  throw invalidVariable('POST_INVOKE_OVERFLOW_QUEUE_URL', url, 'the URL of a queue, or nothing')
}

/**
 * `POST_INVOKE_COMMAND`: what the layer has a shell run after each invocation. `POST_INVOKE_COMMAND_ON`: after which
 * outcomes, default `response,error`. `POST_INVOKE_SHELL`: that shell, default `/bin/sh`.
 */
export function readCommand(variables: Variables = process.env) {
  const { POST_INVOKE_COMMAND: command, POST_INVOKE_COMMAND_ON: given = '', POST_INVOKE_SHELL: shell } = variables
  if (!command) return undefined
  const names = given === '' ? ['response', 'error'] : given.split(',').map(name => name.trim().toLowerCase())
  const on = names.filter(name => name === 'response' || name === 'error')
  if (on.length < names.length)
    throw invalidVariable('POST_INVOKE_COMMAND_ON', given, 'response, error or both, with a comma')
  return { command, on, shell: shell || '/bin/sh' }
}

/**
 * Where the function's code lies. Extensions are not told, for on Lambda it is always the same; the sandbox, and who has an
 * image with another folder, say it with `POST_INVOKE_TASK_ROOT`.
 */
export const taskRoot = (variables: Variables = process.env): string =>
  variables.POST_INVOKE_TASK_ROOT ||
  variables.LAMBDA_TASK_ROOT ||
  (variables.AWS_LAMBDA_RUNTIME_API === undefined ? process.cwd() : '/var/task')

function absolutePath(name: string, variables: Variables): string | undefined {
  const path = variables[name]
  if (!path) return undefined
  if (path.startsWith('/')) return path
  throw invalidVariable(name, path, 'an absolute path, or nothing')
}

/** Upper and lower case are the same: people write variables either way. */
function oneOf<Value extends string>(
  name: string,
  variables: Variables,
  allowed: readonly Value[],
  fallback: Value,
): Value {
  const given = variables[name]
  if (!given) return fallback
  const value = allowed.find(candidate => candidate.toLowerCase() === given.toLowerCase())
  if (value !== undefined) return value
  throw invalidVariable(name, given, `one of ${allowed.join(', ')}`)
}

const invalidVariable = (name: string, given: string, expected: string) =>
  new PostInvokeError('ERR_INVALID_VARIABLE', `Expected the variable ${name} to be ${expected}, got ${quote(given)}.`)
