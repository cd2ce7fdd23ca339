// What a job is given: JSON, and nothing that JSON would drop or change unasked.
import { describe, PostInvokeError } from '../errors.ts'

/** What JSON can say. */
export type JsonValue =
  | string
  | number
  | boolean
  | null
  | readonly JsonValue[]
  | { readonly [key: string]: JsonValue | undefined }

/**
 * The value as it will arrive. `undefined` properties are left out, and `toJSON` is asked, as by `JSON.stringify`.
 *
 * @throws PostInvokeError `ERR_INVALID_HAND_OFF` for what JSON cannot say: functions, symbols, bigints, `NaN`, cycles,
 * maps and sets.
 */
export function toJson(value: unknown): JsonValue | undefined {
  if (value === undefined) return undefined
  let text: string | undefined
  try {
    text = JSON.stringify(value, refuseWhatIsLost)
  } catch (error) {
    if (error instanceof PostInvokeError) throw error
    throw invalidPayload((error as Error).message, value)
  }
  return text === undefined ? undefined : JSON.parse(text)
}

function refuseWhatIsLost(key: string, value: unknown): unknown {
  const isLost =
    typeof value === 'function' ||
    typeof value === 'symbol' ||
    typeof value === 'bigint' ||
    (typeof value === 'number' && !Number.isFinite(value)) ||
    (typeof value === 'object' && value !== null && !isPlain(value))
  if (isLost) throw invalidPayload(`${key === '' ? 'it is' : `${JSON.stringify(key)} is`} ${describe(value)}`, value)
  return value
}

/** A class of the user's own is an object like another; what JSON would make `{}` of is not. */
const isPlain = (value: object): boolean =>
  !(value instanceof Map || value instanceof Set || value instanceof Error || ArrayBuffer.isView(value)) &&
  !(value instanceof ArrayBuffer || value instanceof RegExp || value instanceof Promise)

const invalidPayload = (why: string, value: unknown) =>
  new PostInvokeError('ERR_INVALID_HAND_OFF', `Expected the payload of a job to be JSON, but ${why}.`, value)
