// One way to check options: those of postInvoke(), defer(), onShutdown(), resource() and handOff().
import { unexpected } from '../errors.ts'
import { isFunction } from './waits.ts'

/** What an option must be, in words and as a test. */
export type OptionRule = readonly [expected: string, isRight: (value: any) => boolean]

export const oneOf = (...values: readonly string[]): OptionRule => [
  values.map(value => `'${value}'`).join(' or '),
  value => values.includes(value),
]

export const wholeNumber = (least: number): OptionRule => [
  `a whole number from ${least} up`,
  value => Number.isInteger(value) && value >= least,
]

export const aFunction: OptionRule = ['a function', isFunction]
export const aBoolean: OptionRule = ['true or false', value => typeof value === 'boolean']
export const text: OptionRule = ['a string', value => typeof value === 'string']

/** An object with these methods. */
export const withMethods = (...names: readonly string[]): OptionRule => [
  `an object with the methods ${names.join(', ')}`,
  value => names.every(name => isFunction(value?.[name])),
]

/** Makes the error of what was expected and given. `data` is for its cause. */
type Refuse = (expected: string, given: unknown, data: unknown) => Error

/** A TypeError with the package in its cause, as Middy's own middlewares throw it. */
export const invalidOption: Refuse = (...refused) => {
  const { code, message, cause } = unexpected('ERR_INVALID_OPTION', ...refused)
  return Object.assign(new TypeError(message, { cause }), { code })
}

/**
 * @param call - Who was given them, for the message: `defer()`.
 * @param getRules - Gives the rules. Most calls have no options, and need none.
 * @param options - `undefined` is none.
 * @returns the options, without those that are `undefined`.
 * @throws what `refuse` makes, for what is no object, an option that there is not, and one with a wrong value.
 */
export function checkOptions<Options extends object>(
  call: string,
  getRules: () => Readonly<Record<keyof Options, OptionRule>>,
  options: unknown,
  refuse: Refuse,
): Options {
  return options === undefined ? ({} as Options) : checkGiven(call, getRules(), options, refuse)
}

/** By itself: most functions give no options, and then V8 has nothing of this to compile. */
function checkGiven<Options extends object>(
  call: string,
  rules: Readonly<Record<keyof Options, OptionRule>>,
  options: unknown,
  refuse: Refuse,
): Options {
  if (options === null || typeof options !== 'object' || Array.isArray(options)) throw wrong('s', 'an object', options)
  const checked: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined) continue
    if (!Object.hasOwn(rules, name)) throw wrong('s', `among ${Object.keys(rules).join(', ')}`, name)
    const [expected, isRight] = rules[name as keyof Options]
    if (!isRight(value)) throw wrong(` ${name}`, expected, value)
    checked[name] = value
  }
  return checked as Options

  function wrong(which: string, expected: string, given: unknown) {
    return refuse(`the option${which} of ${call} to be ${expected}`, given, options)
  }
}
