// Lambda's Extensions API: what is sent and what comes back, and a client for it on `node:net`.
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html
import type { Socket } from 'node:net'
import { type Answer, readAnswer } from './http-answer.ts'

type Net = Pick<typeof import('node:net'), 'connect'>

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

export type Request = {
  readonly method: 'GET' | 'POST'
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string
}

export const registerRequest = (name: string, events: readonly Subscription[]): Request => ({
  method: 'POST',
  path: `${BASE}/register`,
  headers: { 'Lambda-Extension-Name': name, 'Content-Type': 'application/json' },
  body: JSON.stringify({ events }),
})

export const nextRequest = (identifier: string): Request => ({
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
 * @param net - `node:net`, given by the caller because how it is loaded decides what it costs.
 * @param options - `ref: false` where nothing here may keep the process running.
 */
export const createExtensionsApi = (address: string, net: Net, options: { ref: boolean }): ExtensionsApi => {
  const { hostname, port } = new URL(`http://${address}`)
  const host = hostname.replace(/^\[|\]$/g, '') // of an IPv6 address
  /** Between two calls. */
  let kept: Connection | undefined

  const call = async (request: Request): Promise<Answer> => {
    let connection = kept?.isOpen ? kept : undefined
    kept = undefined
    if (!connection) {
      const socket = net.connect({ host, port: Number(port || 80), noDelay: true })
      if (!options.ref) socket.unref()
      connection = new Connection(socket)
    }
    const answer = await connection.call(encodeRequest(address, request))
    if (answer.isReusable) kept = connection
    else connection.close()
    if (answer.status === 200) return answer
    throw new ExtensionsApiError(`${request.method} ${request.path}`, answer.status, answer.body)
  }

  return {
    async register(name, events) {
      const { headers, body } = await call(registerRequest(name, events))
      const identifier = headers.get('lambda-extension-identifier')
      if (identifier !== undefined) return identifier
      throw new ExtensionsApiError('POST register without an identifier', 200, body)
    },
    async next(identifier) {
      return parseEvent((await call(nextRequest(identifier))).body)
    },
  }
}

const encodeRequest = (address: string, { method, path, headers, body = '' }: Request): string => {
  const lines = Object.entries({
    Host: address,
    ...headers,
    ...(method === 'POST' && { 'Content-Length': Buffer.byteLength(body) }),
  }).map(([name, value]) => `${name}: ${value}`)
  return `${[`${method} ${path} HTTP/1.1`, ...lines].join('\r\n')}\r\n\r\n${body}`
}

/** One call at a time. */
class Connection {
  readonly #socket: Socket
  #received: Buffer[] = []
  #waiting: PromiseWithResolvers<Answer> | undefined

  constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', chunk => this.#receive(chunk as Buffer))
    socket.on('end', () => {
      this.#read(true)
      this.#broken() // at once: the next invocation may be only one event away
    })
    socket.on('error', error => this.#fail(error))
    socket.on('close', () => this.#broken())
  }

  get isOpen(): boolean {
    return !this.#socket.destroyed && this.#socket.writable
  }

  call(request: string): Promise<Answer> {
    this.#received = []
    this.#waiting = Promise.withResolvers()
    this.#socket.write(request)
    return this.#waiting.promise
  }

  close(): void {
    this.#socket.destroy()
  }

  #receive(chunk: Buffer): void {
    if (this.#waiting) {
      this.#received.push(chunk)
      this.#read(false)
    } else {
      this.close() // nobody has asked for this
    }
  }

  #read(hasEnded: boolean): void {
    if (!this.#waiting) return
    try {
      const [first = Buffer.alloc(0)] = this.#received
      const bytes = this.#received.length > 1 ? Buffer.concat(this.#received) : first
      const answer = readAnswer(bytes, hasEnded)
      if (answer) {
        this.#waiting.resolve(answer)
        this.#waiting = undefined
      }
    } catch (error) {
      this.#fail(error)
      this.close()
    }
  }

  #broken(): void {
    this.#fail(Object.assign(new Error('The connection was closed before the answer'), { code: 'ECONNRESET' }))
    this.close()
  }

  #fail(error: unknown): void {
    this.#waiting?.reject(error)
    this.#waiting = undefined
  }
}
