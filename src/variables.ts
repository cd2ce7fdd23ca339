// The environment variables that users set, and some of Lambda's: each is read when it is first needed, most of them at init,
// where a wrong value is an error. Those of handed-off work stand in hand-off/settings.ts.
import { unexpected } from './errors.ts'

const companionModes = ['auto', 'layer', 'embedded', 'internal', 'off'] as const
export type CompanionMode = (typeof companionModes)[number]

export const logLevels = ['DEBUG', 'INFO', 'WARN', 'ERROR', 'SILENT'] as const
export type LogLevel = (typeof logLevels)[number]

export type Variables = Readonly<Record<string, string | undefined>>

/** `POST_INVOKE_COMPANION`: which companion holds the environment. Default `auto`. */
export const readCompanionMode = (
  variables: Variables = { POST_INVOKE_COMPANION: process.env.POST_INVOKE_COMPANION }, // a bundler may know it
): CompanionMode => readOneOf('POST_INVOKE_COMPANION', variables, companionModes) ?? 'auto'

/** `POST_INVOKE_LOG_LEVEL`: the least level that is logged. Default `WARN`. */
export const readLogLevel = (variables: Variables = process.env): LogLevel =>
  readOneOf('POST_INVOKE_LOG_LEVEL', variables, logLevels) ?? 'WARN'

/** `POST_INVOKE_FOLDER`: where this process and the companion's meet, an absolute path. Default `/tmp`. */
export const readFolder = (variables: Variables = process.env): string =>
  readPath('POST_INVOKE_FOLDER', variables) ?? '/tmp'

/** Whether this is Managed Instances: many invocations at once, never frozen. Extensions do not always get the first variable. */
export const isManagedInstances = (variables: Variables = process.env): boolean =>
  variables.AWS_LAMBDA_MAX_CONCURRENCY !== undefined ||
  variables.AWS_LAMBDA_INITIALIZATION_TYPE === 'lambda-managed-instances'

/**
 * `POST_INVOKE_COMMAND`: what the layer has a shell run after each invocation. `POST_INVOKE_COMMAND_ON`: after which
 * outcomes, default `response,error`. `POST_INVOKE_SHELL`: that shell, default `/bin/sh`.
 */
export function readCommand(variables: Variables = process.env) {
  const { POST_INVOKE_COMMAND: command, POST_INVOKE_SHELL: shell } = variables
  if (!command) return undefined
  const on = readVariable('POST_INVOKE_COMMAND_ON', variables, 'response, error or both, with a comma', given => {
    const names = given.split(',').map(name => name.trim().toLowerCase())
    return names.every(name => name === 'response' || name === 'error') ? names : undefined
  }) ?? ['response', 'error']
  return { command, on, shell: shell || '/bin/sh' }
}

/** Upper and lower case are the same: people write variables either way. */
function readOneOf<Value extends string>(
  name: string,
  variables: Variables,
  allowed: readonly Value[],
): Value | undefined {
  return readVariable(name, variables, `one of ${allowed.join(', ')}`, given =>
    allowed.find(value => value.toLowerCase() === given.toLowerCase()),
  )
}

export const readPath = (name: string, variables: Variables): string | undefined =>
  readVariable(name, variables, 'an absolute path, or nothing', given => (given.startsWith('/') ? given : undefined))

/**
 * @param expected - What it has to be, for the message.
 * @param take - Makes the value of what is given, `undefined` where that is wrong.
 * @returns `undefined` where it is not set, or empty.
 */
export function readVariable<Value>(
  name: string,
  variables: Variables,
  expected: string,
  take: (given: string) => Value | undefined,
): Value | undefined {
  const given = variables[name]
  if (!given) return undefined
  const value = take(given)
  if (value !== undefined) return value
  throw unexpected('ERR_INVALID_VARIABLE', `the variable ${name} to be ${expected}`, given)
}
