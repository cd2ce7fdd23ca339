// What a job is given: JSON, and nothing that JSON would drop or change unasked.
import { describe, PostInvokeError, quote } from '../errors.ts'

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
  try {
    const text = JSON.stringify(value, refuseWhatIsLost)
    return text && JSON.parse(text)
  } catch (error) {
    throw new PostInvokeError(
      'ERR_INVALID_HAND_OFF',
      `Expected the payload of a job to be JSON, but ${(error as Error).message}.`,
    )
  }
}

/** A class of the user's own is an object like another. What says that it is something else, as a Map does, becomes `{}`. */
function refuseWhatIsLost(key: string, value: unknown): unknown {
  const isKept = /^\[object (Object|Array|String|Number|Boolean|Null|Undefined)]$/.test(
    Object.prototype.toString.call(value),
  )
  if (isKept && (typeof value !== 'number' || Number.isFinite(value))) return value
  throw new Error(`${key === '' ? 'it' : quote(key)} is ${describe(value)}`)
}
