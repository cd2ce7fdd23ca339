// Handed-off work as it is written down: one JSON object, in the spool or in a message of the overflow queue.
import type { JsonValue } from './json.ts'

/** An HTTP request. `body` is text, or base64 where `isBase64`. */
export type RequestWork = {
  readonly kind: 'request'
  readonly url: string
  readonly method: string
  readonly headers: readonly (readonly [string, string])[]
  readonly body?: string | undefined
  readonly isBase64?: boolean | undefined
  readonly retry?: RetryOptions | undefined
  readonly dispatcher?: DispatcherOptions | undefined
  readonly maxRedirections?: number | undefined
}

/** A call of a function of the jobs module. Which module that is, is for whoever runs it to know. */
export type JobWork = {
  readonly kind: 'job'
  readonly job: string
  readonly payload?: JsonValue | undefined
  readonly retry?: RetryOptions | undefined
  readonly timeout?: number | undefined
}

export type Entry = {
  readonly version: typeof ENTRY_VERSION
  /** Its idempotency key, the same each time that this work is tried: the caller's own, else `id`. */
  readonly key: string
  /** The request's id, a hash of what is to be done, and a number among those that are to do the same. */
  readonly id: string
  readonly requestId: string
  /** Its tenant, where the function isolates tenants. */
  readonly tenantId?: string | undefined
  /** For log lines. */
  readonly name: string
  /** Milliseconds after which it is not tried again. */
  readonly maxAge?: number | undefined
  readonly work: RequestWork | JobWork
}

/** How often and when to try again. Names and meaning are those of undici's `RetryHandler`. */
export type RetryOptions = {
  /** How often it is tried again, in this environment and by all its processes together. Default 5. */
  maxRetries?: number | undefined
  /** Milliseconds before it is tried again for the first time. Default 500. */
  minTimeout?: number | undefined
  /** Milliseconds before it is tried again, at the most. Default 300,000. */
  maxTimeout?: number | undefined
  /** By how much the wait grows each time. Default 4. */
  timeoutFactor?: number | undefined
  /** Whether a `Retry-After` of the answer is heeded, up to six hours. Default `true`. For requests alone. */
  retryAfter?: boolean | undefined
  /** Which answers are tried again. Default 408, 429, 500, 502, 503 and 504. For requests alone. */
  statusCodes?: readonly number[] | undefined
}

/** How requests are sent. Names and meaning are those of the options of undici's `Agent`. */
export type DispatcherOptions = {
  /** Milliseconds until the connection stands. Default 5,000. */
  connectTimeout?: number | undefined
  /** Milliseconds until the answer begins. Default 10,000. */
  headersTimeout?: number | undefined
  /** Milliseconds between two parts of the answer. Default 10,000. */
  bodyTimeout?: number | undefined
  /** How many connections to one origin there are at a time. */
  connections?: number | undefined
  /** How many requests are on one connection at a time. Default 1. */
  pipelining?: number | undefined
  /** Whether HTTP/2 is spoken with servers that can. */
  allowH2?: boolean | undefined
}

export const ENTRY_VERSION = 1

/** Of one entry. A message of SQS holds as much in any region. */
export const MAX_ENTRY_BYTES = 262_144

/** @returns the entry, or why the text is none. */
export function parseEntry(text: string): Entry | string {
  let value: Partial<Entry> | null
  try {
    value = JSON.parse(text)
  } catch {
    return 'it is not JSON'
  }
  if (typeof value !== 'object' || value === null) return 'it is no object'
  if (value.version !== ENTRY_VERSION) return `its version is ${JSON.stringify(value.version)}, not ${ENTRY_VERSION}`
  for (const name of ['key', 'id', 'requestId', 'name'] as const) {
    if (typeof value[name] !== 'string') return `it has no ${name}`
  }
  if (value.tenantId !== undefined && typeof value.tenantId !== 'string') return 'its tenantId is no text'
  const { work } = value as { work?: Readonly<Record<string, unknown>> }
  const areText = (...names: string[]) => names.every(name => typeof work?.[name] === 'string')
  const isRequest = work?.kind === 'request' && areText('url', 'method') && Array.isArray(work.headers)
  const isJob = work?.kind === 'job' && areText('job')
  return isRequest || isJob ? (value as Entry) : 'it is neither a request nor a job'
}
