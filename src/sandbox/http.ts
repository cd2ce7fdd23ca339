import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

// Not by `import`, which would load undici along with it: most of the time that the command line took to start.
const { createServer } = process.getBuiltinModule('node:http')

export type Handle = (request: IncomingMessage, response: ServerResponse) => void

export type ApiServer = {
  /** `host:port`, the value of AWS_LAMBDA_RUNTIME_API. */
  readonly address: string
  close(): Promise<void>
}

/** Listens on a free loopback port. Nothing here ever times out: a long poll lasts as long as the environment. */
export const listen = async (handle: Handle): Promise<ApiServer> => {
  const server: Server = createServer({ keepAlive: true }, handle)
  server.keepAliveTimeout = 0
  server.headersTimeout = 0
  server.requestTimeout = 0
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', resolve)
  })
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () =>
      new Promise(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

export const respond = (
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Readonly<Record<string, string>> = {},
): void => {
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  response.writeHead(status, {
    'Content-Type': 'application/json',
    'Content-Length': Buffer.byteLength(text),
    ...headers,
  })
  response.end(text)
}

export const refuse = (response: ServerResponse, status: number, errorType: string, errorMessage: string): void =>
  respond(response, status, { errorMessage, errorType })

export const accept = (response: ServerResponse): void => respond(response, 202, { status: 'OK' })

export type Body = { readonly text: string; readonly bytes: number; readonly complete: boolean }

/** Reads a request to its end. A connection that breaks off before gives what had come, with `complete: false`. */
export const readBody = (request: IncomingMessage, onFirstByte?: () => void): Promise<Body> =>
  new Promise(resolve => {
    const chunks: Buffer[] = []
    const done = (complete: boolean) => {
      const body = Buffer.concat(chunks)
      resolve({ text: body.toString('utf8'), bytes: body.length, complete })
    }
    request.once('data', () => onFirstByte?.())
    request.on('data', chunk => chunks.push(chunk))
    request.once('end', () => done(true))
    request.once('close', () => done(false))
    request.once('error', () => done(false))
  })
