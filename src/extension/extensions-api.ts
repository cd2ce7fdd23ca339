// Lambda's Extensions API: what is sent and what comes back, and a client for it on `node:http`.
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html
import type { IncomingMessage, RequestOptions } from 'node:http'

type Http = typeof import('node:http')

/** The events an extension can subscribe to. */
export type Subscription = 'INVOKE' | 'SHUTDOWN'

export type ExtensionEvent =
  | { readonly type: 'INVOKE'; readonly requestId: string; readonly deadline: number }
  | { readonly type: 'SHUTDOWN'; readonly reason: string; readonly deadline: number }
  /** An event of a kind that this version does not know: nothing to do but to ask for the next one. */
  | { readonly type: 'UNKNOWN'; readonly name: string }

/** Answered with something else than success. `status` 403 stays; 5xx may pass. */
export class ExtensionsApiError extends Error {
  readonly status: number
  constructor(call: string, status: number, body: string) {
    super(`The Extensions API answered ${call} with ${status}: ${body.slice(0, 200)}`)
    this.status = status
  }
}

/** A function's timeout is 15 minutes at most: the deadline of an event that names none we can read. */
export const LONGEST_INVOCATION_MS = 900_000

const BASE = '/2020-01-01/extension'

export const registerRequest = (name: string, events: readonly Subscription[]) => ({
  method: 'POST',
  path: `${BASE}/register`,
  headers: { 'Lambda-Extension-Name': name, 'Content-Type': 'application/json' },
  body: JSON.stringify({ events }),
})

export const nextRequest = (identifier: string) => ({
  method: 'GET',
  path: `${BASE}/event/next`,
  headers: { 'Lambda-Extension-Identifier': identifier },
})

export const parseEvent = (body: string, now: number = Date.now()): ExtensionEvent => {
  const event = JSON.parse(body) as Record<string, unknown>
  const deadline =
    typeof event.deadlineMs === 'number' && Number.isFinite(event.deadlineMs)
      ? event.deadlineMs
      : now + LONGEST_INVOCATION_MS
  const name = String(event.eventType).toUpperCase()
  if (name === 'INVOKE') return { type: 'INVOKE', requestId: String(event.requestId), deadline }
  if (name === 'SHUTDOWN') return { type: 'SHUTDOWN', reason: String(event.shutdownReason).toLowerCase(), deadline }
  return { type: 'UNKNOWN', name }
}

export type ExtensionsApi = {
  /** @returns the identifier that every later call carries. */
  register(name: string, events: readonly Subscription[]): Promise<string>
  /** Waits for the next event, however long that takes: there is no timeout on purpose. */
  next(identifier: string): Promise<ExtensionEvent>
}

/**
 * @param address - `host:port`, from `AWS_LAMBDA_RUNTIME_API`.
 * @param http - `node:http`, given by the caller because how it is loaded decides what it costs.
 * @param keepAlive - `false` where nothing here may keep the process running.
 */
export const createExtensionsApi = (address: string, http: Http, options: { ref: boolean }): ExtensionsApi => {
  const { hostname, port } = new URL(`http://${address}`)
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })

  const call = ({ body, ...request }: RequestOptions & { body?: string }) =>
    new Promise<IncomingMessage & { body: string }>((resolve, reject) => {
      const sent = http.request({ ...request, host: hostname, port: port || 80, agent }, response => {
        let text = ''
        response.setEncoding('utf8')
        response.on('data', chunk => {
          text += chunk
        })
        response.on('error', reject)
        response.on('end', () => {
          if (response.statusCode === 200) resolve(Object.assign(response, { body: text }))
          else reject(new ExtensionsApiError(`${request.method} ${request.path}`, response.statusCode ?? 0, text))
        })
      })
      sent.on('error', reject)
      if (!options.ref) sent.on('socket', socket => socket.unref())
      sent.end(body)
    })

  return {
    async register(name, events) {
      const { headers, body } = await call(registerRequest(name, events))
      const identifier = headers['lambda-extension-identifier']
      if (typeof identifier === 'string') return identifier
      throw new ExtensionsApiError('POST register without an identifier', 200, body)
    },
    async next(identifier) {
      return parseEvent((await call(nextRequest(identifier))).body)
    },
  }
}
