// Checks what `handOff()` was given, at the call: later nobody knows any more who gave it.
import { builtIn } from '../built-in.ts'
import { describe, PostInvokeError } from '../errors.ts'
import type { DispatcherOptions, Entry, RequestWork, RetryOptions } from './entry.ts'
import { toJson } from './json.ts'

/** An HTTP request as data. */
export type RequestToHandOff = {
  /** Absolute, `http:` or `https:`, without a user and a password. */
  url: string | URL
  /** Default: `POST` with a body, else `GET`. */
  method?: string | undefined
  /** None of the connection's own, as `Host` and `Content-Length` are. */
  headers?: HeadersToHandOff | undefined
  /** Text or bytes. Of an object, `JSON.stringify` makes text. */
  body?: string | Uint8Array | ArrayBuffer | URLSearchParams | null | undefined
}

/** An object, `Headers`, or pairs, in which a name can stand twice. */
export type HeadersToHandOff = Readonly<Record<string, string>> | Iterable<readonly [string, string]>

/** A `Request` of `fetch`, without a body: reading one takes time, and `handOff()` takes none. */
export type RequestWithoutBody = {
  /** As of a `Request`. */
  readonly url: string
  /** As of a `Request`. */
  readonly method: string
  /** As of a `Request`. */
  readonly headers: Iterable<readonly [string, string]>
  /** `null`. */
  readonly body: unknown
  /** What tells it from a request written as data. */
  readonly bodyUsed: boolean
}

/** How a request is named in log lines, tried again and sent. */
export type RequestOptions = {
  /** Names the work in log lines. Default: method and origin. */
  name?: string | undefined
  /** How often and when it is tried again. Names and meaning are those of undici's `RetryHandler`. */
  retry?: RetryOptions | undefined
  /** Milliseconds after which it is not tried again. Default six hours. */
  maxAge?: number | undefined
  /** The same each time that this work is tried, up to 200 visible ASCII characters. Default: made of the request's id and a hash. */
  idempotencyKey?: string | undefined
  /** How many redirects are followed. One more is a failure. Default 0. */
  maxRedirections?: number | undefined
  /** Timeouts and connections, as undici's `Agent` takes them. */
  dispatcher?: DispatcherOptions | undefined
}

/** How a job is named in log lines, tried again and bounded. */
export type JobOptions = {
  /** Names the work in log lines. Default: the job's name. */
  name?: string | undefined
  /** How often and when it is tried again. */
  retry?: Omit<RetryOptions, 'retryAfter' | 'statusCodes'> | undefined
  /** Milliseconds after which it is not tried again. Default six hours. */
  maxAge?: number | undefined
  /** The same each time that this work is tried, up to 200 visible ASCII characters. Default: made of the request's id and a hash. */
  idempotencyKey?: string | undefined
  /** Milliseconds from the start of each attempt to the abort of its `signal`. */
  timeout?: number | undefined
}

export type ValidWork = Pick<Entry, 'name' | 'work' | 'maxAge'> & { readonly key: string | undefined }

export function validateRequest(given: unknown, options: unknown): ValidWork {
  if (given === null || typeof given !== 'object' || Array.isArray(given)) {
    throw invalidWork(
      `Expected a request ({ url, method, headers, body } or a Request) or the name of a job to hand off, got ${describe(given)}. A function can be deferred: context.defer(() => …)`,
      given,
    )
  }
  const isRequest = (given as { [Symbol.toStringTag]?: unknown })[Symbol.toStringTag] === 'Request'
  if (!isRequest) checkKeys('the request', given, ['url', 'method', 'headers', 'body'])
  const { url, method, headers, body } = given as Partial<Record<keyof RequestToHandOff, unknown>>
  if (isRequest && body !== null) {
    throw invalidWork(
      'Expected a Request without a body, because reading one takes time: pass { url, method, headers, body }',
      given,
    )
  }
  const { name, retry, maxAge, idempotencyKey, dispatcher, maxRedirections } = readOptions(options, [
    ...['name', 'retry', 'maxAge', 'idempotencyKey', 'dispatcher', 'maxRedirections'],
  ])
  const target = readUrl(url)
  const content = readBody(body)
  const verb = readMethod(method, content !== undefined)
  return {
    name: readName(name) ?? `${verb} ${target.origin}`,
    key: readKey(idempotencyKey),
    maxAge: readWhole('maxAge', maxAge, 1),
    work: {
      kind: 'request',
      url: target.href,
      method: verb,
      headers: readHeaders(headers, body),
      ...content,
      retry: readRetry(retry, true),
      dispatcher: readNumbers('dispatcher', dispatcher, DISPATCHER),
      maxRedirections: readWhole('maxRedirections', maxRedirections, 0),
    },
  }
}

export function validateJob(job: string, payload: unknown, options: unknown): ValidWork {
  if (job === '') throw invalidWork('Expected the name of a job, got an empty string', job)
  const { name, retry, maxAge, idempotencyKey, timeout } = readOptions(options, [
    ...['name', 'retry', 'maxAge', 'idempotencyKey', 'timeout'],
  ])
  if (timeout !== undefined && !(Number.isInteger(timeout) && (timeout as number) > 0)) {
    throw invalidWork(
      `Expected the job's timeout to be a whole number of milliseconds above 0, got ${describe(timeout)}`,
      options,
    )
  }
  return {
    name: readName(name) ?? job,
    key: readKey(idempotencyKey),
    maxAge: readWhole('maxAge', maxAge, 1),
    work: {
      kind: 'job',
      job,
      payload: toJson(payload),
      retry: readRetry(retry, false),
      timeout: timeout as number | undefined,
    },
  }
}

function readUrl(given: unknown): URL {
  const text = typeof given === 'string' || given instanceof URL ? String(given) : ''
  // A URL is parsed without its white space: what is sent would not be what was given.
  const url = text.isWellFormed() && !WHITE_SPACE.test(text) ? URL.parse(text) : null
  if (!url || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw invalidWork(
      `Expected the request's url to be an absolute URL with http: or https:, got ${describe(given)}`,
      given,
    )
  }
  if (url.username !== '' || url.password !== '') {
    throw invalidWork(
      "Expected the request's url to hold no user and no password. Use the header Authorization",
      undefined,
    )
  }
  url.hash = ''
  return url
}

const WHITE_SPACE = /[\0- \x7f]/

const METHODS = ['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE', 'POST', 'PATCH']

function readMethod(given: unknown, hasBody: boolean): string {
  if (given === undefined) return hasBody ? 'POST' : 'GET'
  const method = typeof given === 'string' ? given.toUpperCase() : ''
  if (!METHODS.includes(method)) {
    throw invalidWork(`Expected the request's method to be one of ${METHODS.join(', ')}, got ${describe(given)}`, given)
  }
  if (hasBody && (method === 'GET' || method === 'HEAD')) {
    throw invalidWork(`Expected a request without a body for the method ${method}`, given)
  }
  return method
}

/** What the client sets itself. */
const OWN_HEADERS = ['connection', 'content-length', 'expect', 'host', 'keep-alive', 'transfer-encoding', 'upgrade']

function readHeaders(given: unknown, body: unknown): [string, string][] {
  if (given !== undefined && (given === null || typeof given !== 'object')) {
    throw invalidWork(`Expected the request's headers to be an object, got ${describe(given)}`, given)
  }
  const isIterable = typeof (given as Iterable<unknown> | undefined)?.[Symbol.iterator] === 'function'
  const pairs: unknown[] = isIterable ? [...(given as Iterable<unknown>)] : Object.entries(given ?? {})
  const { validateHeaderName, validateHeaderValue } = builtIn('node:http')
  const headers = pairs.map((pair): [string, string] => {
    const [name, value] = Array.isArray(pair) ? pair : []
    if (typeof name !== 'string' || typeof value !== 'string') {
      throw invalidWork(
        `Expected the request's headers to be pairs of strings, got ${describe(value)} for ${describe(name)}`,
        given,
      )
    }
    try {
      validateHeaderName(name)
      validateHeaderValue(name, value)
    } catch (error) {
      throw invalidWork(`Expected the request's headers to be valid, got: ${(error as Error).message}`, given)
    }
    if (OWN_HEADERS.includes(name.toLowerCase())) {
      throw invalidWork(`Expected no header ${name}, which the client sets itself`, given)
    }
    return [name, value]
  })
  const isForm = body instanceof URLSearchParams && !headers.some(([name]) => name.toLowerCase() === 'content-type')
  return isForm ? [...headers, ['Content-Type', 'application/x-www-form-urlencoded;charset=UTF-8']] : headers
}

function readBody(given: unknown): Pick<RequestWork, 'body' | 'isBase64'> | undefined {
  if (given === undefined || given === null) return undefined
  if (typeof given === 'string') {
    if (given.isWellFormed()) return { body: given }
    throw invalidWork("Expected the request's body to be text that UTF-8 can hold, got a lone surrogate", undefined)
  }
  if (given instanceof URLSearchParams) return { body: String(given) }
  if (given instanceof ArrayBuffer) return { body: Buffer.from(given).toString('base64'), isBase64: true }
  if (ArrayBuffer.isView(given)) {
    const bytes = Buffer.from(given.buffer, given.byteOffset, given.byteLength)
    return { body: bytes.toString('base64'), isBase64: true }
  }
  throw invalidWork(
    `Expected the request's body to be a string, bytes or URLSearchParams, got ${describe(given)}. JSON.stringify() makes text of an object`,
    given,
  )
}

const RETRY = { maxRetries: 'number', minTimeout: 'number', maxTimeout: 'number', timeoutFactor: 'number' } as const

const DISPATCHER = {
  connectTimeout: 'number',
  headersTimeout: 'number',
  bodyTimeout: 'number',
  connections: 'number',
  pipelining: 'number',
  allowH2: 'boolean',
} as const

function readRetry(given: unknown, isRequest: boolean): RetryOptions | undefined {
  if (!isRequest || given === null || typeof given !== 'object') return readNumbers('retry', given, RETRY)
  const { statusCodes, ...others } = given as { statusCodes?: unknown }
  const read: RetryOptions | undefined = readNumbers('retry', others, { ...RETRY, retryAfter: 'boolean' })
  if (statusCodes === undefined) return read
  if (!Array.isArray(statusCodes) || !statusCodes.every(code => Number.isInteger(code))) {
    throw invalidWork(`Expected retry.statusCodes to be an array of whole numbers, got ${describe(statusCodes)}`, given)
  }
  return { ...read, statusCodes }
}

function readNumbers(
  option: string,
  given: unknown,
  allowed: Readonly<Record<string, 'number' | 'boolean'>>,
): object | undefined {
  if (given === undefined) return undefined
  if (given === null || typeof given !== 'object' || Array.isArray(given)) {
    throw invalidWork(`Expected ${option} to be an object, got ${describe(given)}`, given)
  }
  checkKeys(option, given, Object.keys(allowed))
  for (const [key, value] of Object.entries(given)) {
    const isRight = typeof value === allowed[key] && (typeof value !== 'number' || (value >= 0 && value <= MAX_NUMBER))
    if (value !== undefined && !isRight) {
      throw invalidWork(`Expected ${option}.${key} to be a ${allowed[key]} from 0 on, got ${describe(value)}`, given)
    }
  }
  return given
}

const readWhole = (option: string, given: unknown, least: number): number | undefined => {
  if (given === undefined || (Number.isInteger(given) && (given as number) >= least && (given as number) <= MAX_NUMBER))
    return given as number | undefined
  throw invalidWork(`Expected ${option} to be a whole number from ${least} on, got ${describe(given)}`, given)
}

/** It becomes a header, and a part of a queue's message. */
function readKey(given: unknown): string | undefined {
  if (given === undefined || (typeof given === 'string' && /^[\x21-\x7e]{1,200}$/.test(given))) return given
  throw invalidWork(
    `Expected idempotencyKey to be 1 to 200 visible ASCII characters without a space, got ${describe(given)}`,
    given,
  )
}

/** What setTimeout can count. */
const MAX_NUMBER = 2 ** 31 - 1

const readName = (given: unknown): string | undefined => {
  if (given === undefined || typeof given === 'string') return given?.slice(0, MAX_NAME_LENGTH)
  throw invalidWork(`Expected the work's name to be a string, got ${describe(given)}`, given)
}

const MAX_NAME_LENGTH = 100

function readOptions(given: unknown, allowed: readonly string[]): Record<string, unknown> {
  if (given === undefined) return {}
  if (given === null || typeof given !== 'object' || Array.isArray(given)) {
    throw invalidWork(`Expected the options of handOff() to be an object, got ${describe(given)}`, given)
  }
  checkKeys('the options of handOff()', given, allowed)
  return given as Record<string, unknown>
}

const checkKeys = (what: string, given: object, allowed: readonly string[]) => {
  const unknown = Object.keys(given).find(key => !allowed.includes(key))
  if (unknown === undefined) return
  throw invalidWork(`Expected ${what} to have no keys but ${allowed.join(', ')}, got ${JSON.stringify(unknown)}`, given)
}

export const invalidWork = (message: string, data: unknown) =>
  new PostInvokeError('ERR_INVALID_HAND_OFF', `${message}.`, data)
