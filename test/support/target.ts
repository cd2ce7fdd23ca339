// A real HTTP server on a free port that remembers what it was sent, and answers as it is told.
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export type Received = {
  readonly method: string
  readonly path: string
  readonly headers: IncomingHttpHeaders
  readonly rawHeaders: readonly string[]
  readonly body: Buffer
  /** On the machine's monotonic clock, in milliseconds. */
  readonly t: number
}

export type Target = AsyncDisposable & {
  readonly url: string
  readonly received: Received[]
  /** Idempotency keys with how often each came. */
  keys(): Map<string, number>
}

/** @param answer - Of each request. Default: 200. */
export const startTarget = async (
  answer: (response: ServerResponse, request: Received) => void = ok,
): Promise<Target> => {
  const received: Received[] = []
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', chunk => chunks.push(chunk))
    request.on('end', () => {
      const { method = '', url: path = '', headers, rawHeaders } = request
      const t = Number(process.hrtime.bigint()) / 1e6
      const all = { method, path, headers, rawHeaders, body: Buffer.concat(chunks), t }
      received.push(all)
      answer(response, all)
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    received,
    keys() {
      const counts = new Map<string, number>()
      for (const { headers } of received) {
        const key = String(headers['idempotency-key'])
        counts.set(key, (counts.get(key) ?? 0) + 1)
      }
      return counts
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    },
  }
}

const ok = (response: ServerResponse) => void response.end('ok')
