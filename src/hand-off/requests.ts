// Sends handed-off requests, with undici and its own retries and timeouts. It is loaded with the first one: 80 ms and 15 MB
// that nobody else pays.
import type { Dispatcher } from 'undici'
import type { DispatcherOptions, RequestWork } from './entry.ts'

type Undici = typeof import('undici')

export const IDEMPOTENCY_HEADER = 'Idempotency-Key'

const DISPATCHER = { connectTimeout: 5_000, headersTimeout: 10_000, bodyTimeout: 10_000 }

/** Unlike undici's own: all methods, for each attempt carries the same idempotency key, and timeouts are errors to try again. */
const RETRY = {
  maxRetries: 2,
  methods: ['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE', 'POST', 'PATCH'] as Dispatcher.HttpMethod[],
  statusCodes: [408, 429, 500, 502, 503, 504],
  errorCodes: [
    ...['ECONNRESET', 'ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'ENETDOWN', 'ENETUNREACH', 'EHOSTDOWN', 'EHOSTUNREACH'],
    ...['EPIPE', 'ETIMEDOUT', 'UND_ERR_SOCKET', 'UND_ERR_CONNECT_TIMEOUT', 'UND_ERR_HEADERS_TIMEOUT'],
    'UND_ERR_BODY_TIMEOUT',
  ],
}

export class RequestSender {
  #undici: Undici | undefined
  readonly #agents = new Map<string, InstanceType<Undici['Agent']>>()

  /**
   * @returns what came of it, for a log line.
   * @throws an error that says the status, or why there is none, and how often it was tried.
   */
  async send(work: RequestWork, key: string, signal: AbortSignal): Promise<string> {
    this.#undici ??= await import('undici')
    const { interceptors } = this.#undici
    let attempts = 0
    const count: Dispatcher.DispatcherComposeInterceptor = dispatch => (options, handler) => {
      attempts++
      return dispatch(options, handler)
    }
    const dispatcher = this.#agent(work.dispatcher).compose(
      count,
      interceptors.retry({ ...RETRY, ...(work.retry as object) }),
    )
    try {
      const { statusCode, body } = await dispatcher.request({
        origin: new URL(work.url).origin,
        path: pathOf(work.url),
        method: work.method as Dispatcher.HttpMethod,
        headers: headersOf(work, key),
        body: work.body === undefined ? null : Buffer.from(work.body, work.isBase64 ? 'base64' : 'utf8'),
        signal,
      })
      await body.dump()
      if (statusCode < 400) return `status ${statusCode}, attempts: ${attempts}`
      throw new Error(`${work.method} ${originOf(work.url)} was answered with status ${statusCode}`)
    } catch (error) {
      if (attempts === 0) throw error
      const { statusCode } = error as { statusCode?: number }
      throw new Error(
        `${work.method} ${originOf(work.url)}: ${statusCode === undefined ? (error as Error).message : `status ${statusCode}`}, attempts: ${attempts}`,
        { cause: error },
      )
    }
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

const pathOf = (url: string) => {
  const { pathname, search } = new URL(url)
  return pathname + search
}

/** For log lines: a path or a query may hold what is secret. */
const originOf = (url: string) => new URL(url).origin

/** Flat, so that a header can stand there twice. */
const headersOf = ({ headers }: RequestWork, key: string): string[] => {
  const isGiven = headers.some(([name]) => name.toLowerCase() === IDEMPOTENCY_HEADER.toLowerCase())
  return [...headers, ...(isGiven ? [] : [[IDEMPOTENCY_HEADER, key] as const])].flat()
}
