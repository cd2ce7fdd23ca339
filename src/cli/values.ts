// Values of options, read and checked by commander as it parses.
import { InvalidArgumentError } from 'commander'

/** Seconds, as Lambda's timeout is counted: up to 900. */
export const seconds = (text: string): number => {
  const value = Number(text)
  if (text.trim() !== '' && value > 0 && value <= 900) return value
  throw new InvalidArgumentError('Expected seconds, above 0 and at most 900.')
}

export const count = (text: string): number => {
  const value = Number(text)
  if (text.trim() !== '' && Number.isInteger(value) && value > 0) return value
  throw new InvalidArgumentError('Expected a whole number above 0.')
}

/** For options that can be given more than once. */
export const collect = (text: string, before: readonly string[]): readonly string[] => [...before, text]
