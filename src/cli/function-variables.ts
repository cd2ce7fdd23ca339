// The function's environment variables: nothing of this process's is passed on unless it is asked for.
import { readFileSync } from 'node:fs'
import { parseEnv } from 'node:util'
import { UsageError } from './errors.ts'

/**
 * @param given - `NAME=VALUE`, or `NAME` for the value that this process has.
 * @throws UsageError for a file that cannot be read, and a name that has no value.
 */
export const readVariables = (files: readonly string[], given: readonly string[]): Record<string, string> => {
  const variables: Record<string, string> = {}
  for (const file of files) Object.assign(variables, parseEnv(readFile(file)))
  for (const entry of given) {
    const [, name, value = process.env[name ?? '']] = /^([^=]+)(?:=(.*))?$/s.exec(entry) ?? []
    if (name === undefined)
      throw new UsageError(`Expected --env to be NAME=VALUE or NAME, got ${JSON.stringify(entry)}.`)
    if (value === undefined)
      throw new UsageError(
        `Expected --env ${name} to name a variable that is set here. Set it, or write ${name}=VALUE.`,
      )
    variables[name] = value
  }
  return variables
}

const readFile = (path: string): string => {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new UsageError(
      `Expected --env-from to be a file, got ${JSON.stringify(path)} (${(error as NodeJS.ErrnoException).code}).`,
    )
  }
}
