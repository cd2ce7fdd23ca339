// The options of a middleware, checked once, at init. The errors are those that Middy's own middlewares give, and say what
// was given too. The `validateOptions` of @middy/util, which gives them there, would bring 4 kB into each bundle for rules
// that none here needs.
import { describe } from '../errors.ts'

/**
 * What an option may be: one of these strings, a whole number from this one up, a function or a boolean. Or what says of a
 * value what it must be, if it is something else.
 */
export type OptionRule = readonly string[] | number | 'function' | 'boolean' | ((value: unknown) => string | undefined)

/**
 * @param options - Without those that are `undefined`.
 * @throws TypeError that names the option, what it must be and what it is, with `cause.package`.
 */
export const validateOptions = (
  packageName: string,
  rules: Readonly<Record<string, OptionRule>>,
  options: Readonly<Record<string, unknown>>,
): void => {
  const problem = findUnknown(rules, options) ?? findWrong(rules, options)
  if (problem !== undefined) throw new TypeError(problem, { cause: { package: packageName } })
}

const findUnknown = (rules: object, options: object): string | undefined => {
  const unknown = Object.keys(options).find(name => !Object.hasOwn(rules, name))
  return unknown === undefined ? undefined : `Unknown option '${unknown}': there are ${Object.keys(rules).join(', ')}`
}

const findWrong = (
  rules: Readonly<Record<string, OptionRule>>,
  options: Readonly<Record<string, unknown>>,
): string | undefined => {
  for (const [name, rule] of Object.entries(rules)) {
    const expected = name in options ? expectation(rule, options[name]) : undefined
    if (expected !== undefined) return `Option '${name}' must be ${expected}, got ${describe(options[name])}`
  }
  return undefined
}

/** @returns what it must be, if it is something else. */
const expectation = (rule: OptionRule, value: unknown): string | undefined => {
  if (typeof rule === 'function') return rule(value)
  if (rule === 'boolean') return typeof value === 'boolean' ? undefined : rule
  if (rule === 'function') return typeof value === 'function' ? undefined : 'instanceof Function'
  if (typeof rule === 'number') {
    if (!Number.isInteger(value)) return 'integer'
    return (value as number) < rule ? `>= ${rule}` : undefined
  }
  if (typeof value !== 'string') return 'string'
  return rule.includes(value) ? undefined : `one of ${JSON.stringify(rule)}`
}
