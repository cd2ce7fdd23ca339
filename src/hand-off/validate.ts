// Checks what `handOff()` was given, at the call: later nobody knows any more who gave it.
import { describe, PostInvokeError, unexpected } from '../errors.ts'
import { aBoolean, checkOptions, type OptionRule, text, wholeNumber } from '../middleware/option-rules.ts'
import type { DispatcherOptions, Entry, JobWork, RequestWork, RetryOptions } from './entry.ts'
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

export type ValidWork = Pick<Entry, 'name' | 'work' | 'maxAge'> & {
  readonly key: string | undefined
  /** Where it goes: an origin, or the job. */
  readonly receiver: string
  /** What is to be done, whatever options there are for it. */
  readonly content: string
}

export function validateRequest(given: unknown, options: unknown): ValidWork {
  if (typeof given !== 'object' || given === null || Array.isArray(given))
    throw invalidWork('a request or the name of a job', given)
  const { url, method, headers, body } = given as RequestToHandOff
  const isRequest = (given as { [Symbol.toStringTag]?: unknown })[Symbol.toStringTag] === 'Request'
  if (isRequest && body !== null) throw invalidWork('a Request without a body, because reading one takes time', body)
  check('a request', rules().request, isRequest ? { method } : { ...given, url, method, headers, body })
  const { href, origin } = readUrl(url)
  const content = readBody(body)
  const verb = method?.toUpperCase() ?? (content ? 'POST' : 'GET')
  if (content && ['GET', 'HEAD'].includes(verb)) throw invalidWork('a request with a body to have another method', verb)
  const work = { kind: 'request', url: href, method: verb, headers: readHeaders(headers, body), ...content } as const
  return valid(work, origin, `${verb} ${origin}`, check('handOff()', rules().ofRequest, options))
}

export function validateJob(job: string, payload: unknown, options: unknown): ValidWork {
  if (job === '') throw invalidWork('the name of a job', job)
  const work = { kind: 'job', job, payload: toJson(payload) } as const
  return valid(work, job, job, check('handOff()', rules().ofJob, options))
}

const valid = (
  work: RequestWork | JobWork,
  receiver: string,
  ownName: string,
  { name = ownName, idempotencyKey: key, maxAge, ...how }: RequestOptions & JobOptions,
): ValidWork => ({
  name: name.slice(0, MAX_NAME_LENGTH),
  key,
  receiver,
  content: JSON.stringify(work),
  maxAge,
  work: { ...work, ...how },
})

const MAX_NAME_LENGTH = 100

export const invalidWork = (expected: string, given: unknown): PostInvokeError =>
  unexpected('ERR_INVALID_HAND_OFF', expected, given)

type Rules = Readonly<Record<string, OptionRule>>

const check = (call: string, rules: Rules, options: unknown): object =>
  checkOptions(
    call,
    () => rules,
    options,
    // Without data: what was given may hold a password.
    (expected, given) => new PostInvokeError('ERR_INVALID_HAND_OFF', `Expected ${expected}, got ${describe(given)}.`),
  )

let made: ReturnType<typeof makeRules> | undefined

/** Made once, at the first call. */
function rules() {
  made ??= makeRules()
  return made
}

const METHODS = ['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE', 'POST', 'PATCH']

function makeRules() {
  const retry: Rules = { maxRetries: bounded, minTimeout: bounded, maxTimeout: bounded, timeoutFactor: bounded }
  const both: Rules = {
    name: text,
    maxAge: wholeNumber(1),
    // It becomes a header, and a part of a queue's message.
    idempotencyKey: [
      '1 to 200 visible ASCII characters',
      value => typeof value === 'string' && /^[!-~]{1,200}$/.test(value),
    ],
  }
  return {
    request: {
      url: ['a string or a URL', value => typeof value === 'string' || value instanceof URL],
      method: [METHODS.join(', '), value => typeof value === 'string' && METHODS.includes(value.toUpperCase())],
      headers: ['an object', value => typeof value === 'object' && value !== null],
      body: [
        'text that UTF-8 can hold, bytes or URLSearchParams',
        value =>
          value === null ||
          (typeof value === 'string' && value.isWellFormed()) ||
          ArrayBuffer.isView(value) ||
          value instanceof ArrayBuffer ||
          value instanceof URLSearchParams,
      ],
    },
    ofRequest: {
      ...both,
      retry: withOptions('retry', {
        ...retry,
        retryAfter: aBoolean,
        statusCodes: ['an array of whole numbers', value => Array.isArray(value) && value.every(Number.isInteger)],
      }),
      dispatcher: withOptions('dispatcher', {
        connectTimeout: bounded,
        headersTimeout: bounded,
        bodyTimeout: bounded,
        connections: bounded,
        pipelining: bounded,
        allowH2: aBoolean,
      }),
      maxRedirections: wholeNumber(0),
    },
    ofJob: { ...both, retry: withOptions('retry', retry), timeout: wholeNumber(1) },
  } satisfies Readonly<Record<string, Rules>>
}

/** No more than setTimeout can count. */
const bounded: OptionRule = [
  'a number from 0 to 2147483647',
  value => typeof value === 'number' && value >= 0 && value < 2 ** 31,
]

/** Options in an option: what is wrong with them is said of themselves. */
const withOptions = (name: string, rules: Rules): OptionRule => ['', value => !!check(name, rules, value)]

function readUrl(given: unknown): URL {
  const text = String(given)
  // A URL is parsed without its white space, and with something else for half a character: not what was given.
  const url = text.isWellFormed() && !/[\0- \x7f]/.test(text) ? URL.parse(text) : null
  if (!url || !['http:', 'https:'].includes(url.protocol))
    throw invalidWork('an absolute URL with http: or https:', given)
  if (url.username || url.password) throw invalidWork('a URL without a user and a password', url.origin)
  url.hash = ''
  return url
}

/** What the client sets itself. */
const OWN_HEADERS = ['connection', 'content-length', 'expect', 'host', 'keep-alive', 'transfer-encoding', 'upgrade']

function readHeaders(given: HeadersToHandOff = {}, body: unknown): [string, string][] {
  const headers: any[] = Symbol.iterator in given ? [...given] : Object.entries(given)
  for (const [name, value] of headers.map(pair => (Array.isArray(pair) ? pair : []))) {
    const areText = typeof name === 'string' && typeof value === 'string'
    const isHeader = areText && /^[\w!#$%&'*+.^`|~-]+$/.test(name) && !/[^\t -~\x80-\xff]/.test(value)
    if (!isHeader || OWN_HEADERS.includes(name.toLowerCase())) {
      throw invalidWork('a header of text that HTTP can hold, and none that the client sets itself', name)
    }
  }
  if (body instanceof URLSearchParams && !headers.some(([name]) => /^content-type$/i.test(name))) {
    headers.push(['Content-Type', 'application/x-www-form-urlencoded;charset=UTF-8'])
  }
  return headers
}

function readBody(given: RequestToHandOff['body']): Pick<RequestWork, 'body' | 'isBase64'> | undefined {
  if (given === undefined || given === null) return undefined
  if (typeof given === 'string' || given instanceof URLSearchParams) return { body: String(given) }
  const { buffer, byteOffset, byteLength } = ArrayBuffer.isView(given) ? given : new Uint8Array(given)
  return { body: Buffer.from(buffer, byteOffset, byteLength).toString('base64'), isBase64: true }
}
