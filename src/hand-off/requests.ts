// Sends handed-off requests, with undici and its timeouts. It is loaded with the first one: 80 ms and 15 MB that nobody
// else pays. Each is sent once: when it is tried again, and how often, is the spool's affair, where no process need wait.
import type { Dispatcher } from 'undici'
import type { DispatcherOptions, RequestWork } from './entry.ts'

type Undici = typeof import('undici')

export const IDEMPOTENCY_HEADER = 'Idempotency-Key'

const DISPATCHER = { connectTimeout: 5_000, headersTimeout: 10_000, bodyTimeout: 10_000 }

/** Other answers from 300 on would be the same again. */
const STATUS_CODES_TO_TRY_AGAIN = [408, 429, 500, 502, 503, 504]

const CODES_TO_TRY_AGAIN = [
  ...['ECONNRESET', 'ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'ENETDOWN', 'ENETUNREACH', 'EHOSTDOWN', 'EHOSTUNREACH'],
  ...['EPIPE', 'ETIMEDOUT', 'UND_ERR_SOCKET', 'UND_ERR_CONNECT_TIMEOUT', 'UND_ERR_HEADERS_TIMEOUT'],
  'UND_ERR_BODY_TIMEOUT',
]

/** Why a request failed. No header, path or body stands in it, and it has no cause: one of undici's would hold all three. */
export class RequestFailure extends Error {
  /** Whether to try again would change nothing. */
  readonly isFinal: boolean
  /** Whether nobody answered. */
  readonly isUnanswered: boolean
  /** Milliseconds, as the answer asks for them. */
  readonly retryAfter: number | undefined

  constructor(
    message: string,
    { isFinal, isUnanswered, retryAfter }: { isFinal: boolean; isUnanswered: boolean; retryAfter?: number | undefined },
  ) {
    super(message)
    this.isFinal = isFinal
    this.isUnanswered = isUnanswered
    this.retryAfter = retryAfter
  }
}

export class RequestSender {
  #undici: Undici | undefined
  readonly #agents = new Map<string, InstanceType<Undici['Agent']>>()

  /**
   * @returns what came of it, for a log line.
   * @throws RequestFailure
   */
  async send(work: RequestWork, key: string, signal: AbortSignal): Promise<string> {
    this.#undici ??= await import('undici')
    const { method, maxRedirections = 0, retry = {} } = work
    const { origin, pathname, search } = new URL(work.url)
    let statusCode: number
    let headers: Dispatcher.ResponseData['headers']
    try {
      const dispatcher = this.#agent(work.dispatcher).compose(this.#undici.interceptors.redirect({ maxRedirections }))
      const response = await dispatcher.request({
        origin,
        path: pathname + search,
        method: method as Dispatcher.HttpMethod,
        headers: headersOf(work, key),
        body: work.body === undefined ? null : Buffer.from(work.body, work.isBase64 ? 'base64' : 'utf8'),
        signal,
      })
      ;({ statusCode, headers } = response)
      await response.body.dump()
    } catch (error) {
      const code = codeOf(error)
      const isFinal = !CODES_TO_TRY_AGAIN.includes(code)
      throw new RequestFailure(`${method} ${origin}: ${code}`, { isFinal, isUnanswered: !isFinal })
    }
    if (statusCode < 300) return `status ${statusCode}`
    const { statusCodes = STATUS_CODES_TO_TRY_AGAIN, retryAfter: heedsRetryAfter = true } = retry
    throw new RequestFailure(
      `${method} ${origin}: status ${statusCode}${statusCode < 400 ? `, after ${maxRedirections} redirects that it may follow` : ''}`,
      {
        isFinal: !statusCodes.includes(statusCode),
        isUnanswered: false,
        retryAfter: heedsRetryAfter ? parseRetryAfter(headers['retry-after']) : undefined,
      },
    )
  }

  /** Connections are no use after a freeze, and an open one would keep a process running. */
  async close(): Promise<void> {
    const agents = [...this.#agents.values()]
    this.#agents.clear()
    await Promise.all(agents.map(agent => agent.destroy()))
  }

  #agent(options: DispatcherOptions = {}): InstanceType<Undici['Agent']> {
    const key = JSON.stringify(options)
    const known = this.#agents.get(key)
    if (known) return known
    const { Agent } = this.#undici as Undici
    const agent = new Agent({ ...DISPATCHER, ...(options as object) })
    this.#agents.set(key, agent)
    return agent
  }
}

/** A code is a constant. A message may quote what was sent or received. */
const codeOf = (error: unknown): string => {
  const { code, name } = (error ?? {}) as { code?: unknown; name?: unknown }
  const isConstant = (value: unknown): value is string => typeof value === 'string' && /^\w{1,60}$/.test(value)
  return isConstant(code) ? code : isConstant(name) ? name : 'an error'
}

/** Seconds or a date: https://www.rfc-editor.org/rfc/rfc9110#field.retry-after */
const parseRetryAfter = (given: string | string[] | undefined): number | undefined => {
  const text = String(given ?? '').trim()
  const milliseconds = /^\d+$/.test(text) ? Number(text) * 1_000 : Date.parse(text) - Date.now()
  return milliseconds > 0 ? milliseconds : undefined
}

/** Flat, so that a header can stand there twice. */
const headersOf = ({ headers }: RequestWork, key: string): string[] => {
  const isGiven = headers.some(([name]) => name.toLowerCase() === IDEMPOTENCY_HEADER.toLowerCase())
  return [...headers, ...(isGiven ? [] : [[IDEMPOTENCY_HEADER, key] as const])].flat()
}
