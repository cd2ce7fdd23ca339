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

/** What was given, as Node.js shows it, without what stands in it: `42`, `'x'`, `[Array]`. Never throws, never long. */
export function describe(value: unknown): string {
  try {
    const { inspect } = builtIn('node:util')
    return inspect(value, { depth: -1, customInspect: false }).split('\n', 1)[0]?.slice(0, 80) as string
  } catch {
    return typeof value // a proxy may throw
  }
}
