// What the options of defer(), onShutdown() and resource() have in common, checked at the call.
import { describe } from '../errors.ts'

/**
 * @param call - Who was given them, and `what` they are of, for the message.
 * @param names - Those that there are: `name`, `timeout`, and others that are the caller's to check.
 * @param invalid - Makes the error of a message without its full stop.
 * @returns the options, `{}` where there are none.
 * @throws what `invalid` makes.
 */
export const readCallOptions = (
  call: string,
  what: string,
  names: readonly string[],
  options: unknown,
  invalid: (message: string, data: unknown) => Error,
): { name?: string; timeout?: number } => {
  if (options === undefined) return {}
  if (options === null || typeof options !== 'object' || Array.isArray(options)) {
    throw invalid(`Expected the options of ${call} to be an object, got ${describe(options)}`, options)
  }
  const unknown = Object.keys(options).find(key => !names.includes(key))
  if (unknown !== undefined) {
    throw invalid(
      `Expected the options of ${call} to be among ${names.join(', ')}, got ${JSON.stringify(unknown)}`,
      options,
    )
  }
  const { name, timeout } = options as Record<string, unknown>
  if (name !== undefined && typeof name !== 'string') {
    throw invalid(`Expected the ${what}'s name to be a string, got ${describe(name)}`, options)
  }
  if (timeout !== undefined && !(Number.isInteger(timeout) && (timeout as number) > 0)) {
    throw invalid(
      `Expected the ${what}'s timeout to be a whole number of milliseconds above 0, got ${describe(timeout)}`,
      options,
    )
  }
  return options
}
