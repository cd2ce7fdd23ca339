// The words of errors: what was expected, and what was given.
import { builtIn } from './built-in.ts'
import { PostInvokeError, type PostInvokeErrorCode } from './post-invoke-error.ts'

export { PostInvokeError, type PostInvokeErrorCode } from './post-invoke-error.ts'

/**
 * For where something else was expected than what was given.
 *
 * @param data - For the error's cause, where that is more than what was given.
 */
export const unexpected = (
  code: PostInvokeErrorCode | 'ERR_INVALID_OPTION',
  expected: string,
  given: unknown,
  data: unknown = given,
): PostInvokeError =>
  new PostInvokeError(code as PostInvokeErrorCode, `Expected ${expected}, got ${describe(given)}.`, data)

/** What was thrown: it can be anything, `undefined` too. */
export type Failure = { readonly error: unknown }

/** As JSON has it: between double quotes. */
export const quote: (text: string) => string = JSON.stringify

/** What was given: as Node.js shows it, and of an object the class alone: `42`, `'x'`, `[Array]`. Never throws, never long. */
export function describe(value: any): string {
  try {
    if (value !== null && typeof value === 'object')
      return `[${String(value.constructor?.name || 'Object').slice(0, 80)}]`
    const { inspect } = builtIn('node:util')
    if (typeof value === 'string') return inspect(value.slice(0, 80))
    return inspect(value, { depth: -1, customInspect: false }).slice(0, 80)
  } catch {
    return typeof value // a proxy may throw
  }
}
