// What `--event` names: a file, the standard input, or JSON as it stands there.
import { readFileSync } from 'node:fs'
import { UsageError } from './errors.ts'

/** @throws UsageError where it is no JSON, or no file. */
export const readEvent = (given: string): unknown => {
  if (given === '-') return parse(readFileSync(0, 'utf8'), 'what came by the standard input')
  if (/^\s*[[{"]/.test(given)) return parse(given, JSON.stringify(given))
  return parse(readFile(given), given)
}

const readFile = (path: string): string => {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new UsageError(
      `Expected --event to be a file, JSON or - for the standard input, got ${JSON.stringify(path)} (${(error as NodeJS.ErrnoException).code}).`,
    )
  }
}

const parse = (text: string, name: string): unknown => {
  try {
    return JSON.parse(text.replace(/^\ufeff/, ''))
  } catch (error) {
    throw new UsageError(`Expected --event to be JSON, got ${name}: ${(error as Error).message}.`)
  }
}
