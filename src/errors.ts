// The words of errors: what was expected, and what was given.
import { PostInvokeError, type PostInvokeErrorCode } from './post-invoke-error.ts'

export { PostInvokeError, type PostInvokeErrorCode } from './post-invoke-error.ts'

/** For where something else was expected than what was given. */
export const unexpected = (code: PostInvokeErrorCode, expected: string, given: unknown): PostInvokeError =>
  new PostInvokeError(code, `Expected ${expected}, got ${describe(given)}.`, given)

/** What was thrown: it can be anything, `undefined` too. */
export type Failure = { readonly error: unknown }

/** As JSON has it: between double quotes. */
export const quote: (text: string) => string = JSON.stringify

/** What was given, for error messages: `42 (number)`, `"x" (string)`, `null`. Never throws, never long. */
export function describe(value: unknown): string {
  if (value === null || value === undefined) return String(value)
  if (typeof value === 'function') return 'a function'
  if (typeof value === 'object') return Array.isArray(value) ? 'an array' : `an object (${constructorName(value)})`
  return `${typeof value === 'string' ? quote(value.slice(0, 80)) : String(value).slice(0, 80)} (${typeof value})`
}

function constructorName(value: object): string {
  try {
    const name: unknown = value.constructor?.name
    return typeof name === 'string' && name !== '' ? name.slice(0, 80) : 'no prototype'
  } catch {
    return 'unreadable'
  }
}
