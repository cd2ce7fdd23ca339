// A proxy before the sandbox's APIs, as an environment sees them: it passes everything on but what a rule refuses.
import { readdirSync, readFileSync } from 'node:fs'
import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { makeFolder, makeLayer } from './fault-layers.ts'
import type { Given, Start } from './fault-observe.ts'

export type Call = {
  readonly path: string
  /** How often this extension has made this call, this one included. */
  readonly count: number
}

/** What an extension gets instead of an answer. `silence`: never one. `cut`: the connection breaks off. `half`: no more than that. */
export type Refusal = { status: number; body?: string; headers?: Record<string, string> } | 'silence' | 'cut' | 'half'

/** What becomes of the answer on its way: it comes in chunks, in pieces with a pause before each, or is the connection's last. */
export type Shape = 'chunked' | 'in pieces' | 'the last'

export type ApiProxy = {
  /** What an environment has to be started with to be behind the proxy. */
  readonly start: Start
  /** Breaks off the connections on which extensions wait for their next event. */
  cutPolls(): void
}

const EXTENSIONS = '/2020-01-01/extension/'

/** @param refuse - Asked of each call to the Extensions API by its path there: `register`, `event/next`. */
export const startProxy = async (
  given: Given,
  refuse: (call: Call) => Refusal | Shape | undefined,
): Promise<ApiProxy> => {
  const folder = makeFolder(given.cleanUp)
  const target = join(folder, 'target')
  const counts = new Map<string, number>()
  const polls = new Set<ServerResponse>()
  const agent = new http.Agent({ keepAlive: true })

  const answer = (request: IncomingMessage, response: ServerResponse): void => {
    const url = request.url ?? ''
    if (url.startsWith(EXTENSIONS)) {
      const path = url.slice(EXTENSIONS.length)
      const who = request.headers['lambda-extension-identifier'] ?? request.headers['lambda-extension-name']
      const count = (counts.get(`${path} ${who}`) ?? 0) + 1
      counts.set(`${path} ${who}`, count)
      const refusal = refuse({ path, count })
      if (refusal === 'silence') return
      if (refusal === 'cut') return void request.socket.destroy()
      if (refusal === 'half') {
        response.writeHead(200, { 'Content-Length': 500 }).write('{"eventType":"INVO')
        return
      }
      if (typeof refusal === 'string') {
        pass(request, response, refusal)
        return
      }
      if (refusal) {
        const body = refusal.body ?? '{"errorType":"Refused","errorMessage":"refused by the test"}'
        response.writeHead(refusal.status, { 'Content-Length': Buffer.byteLength(body), ...refusal.headers }).end(body)
        return
      }
      if (path === 'event/next') {
        polls.add(response)
        response.once('close', () => polls.delete(response))
      }
    }
    pass(request, response)
  }

  /** The environment writes down where its APIs really are. */
  const pass = (request: IncomingMessage, response: ServerResponse, shape?: Shape) => {
    const [host, port] = readFileSync(target, 'utf8').trim().split(':')
    const { method, url, headers } = request
    const passed = http.request({ host, port, method, path: url, headers, agent }, answered => {
      if (shape) return void shaped(answered, response, shape)
      response.writeHead(answered.statusCode ?? 500, answered.headers)
      answered.pipe(response)
    })
    passed.on('error', () => response.destroy())
    response.on('error', () => {})
    request.on('error', () => passed.destroy())
    request.pipe(passed)
  }

  const shaped = async (answered: IncomingMessage, response: ServerResponse, shape: Shape) => {
    const { 'content-length': _length, 'transfer-encoding': _encoding, ...headers } = answered.headers
    const body = Buffer.concat(await answered.toArray())
    if (shape === 'the last') headers.connection = 'close'
    const length = shape === 'chunked' ? {} : { 'Content-Length': body.length }
    response.writeHead(answered.statusCode ?? 500, { ...headers, ...length })
    response.flushHeaders()
    const pieces = [body.subarray(0, 7), body.subarray(7, 30), body.subarray(30)]
    for (const piece of pieces) {
      if (shape === 'in pieces') await sleep(30)
      response.write(piece)
    }
    response.end()
  }

  const server = http.createServer({ keepAlive: true }, answer)
  server.requestTimeout = 0
  server.headersTimeout = 0
  server.keepAliveTimeout = 0
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  given.cleanUp.defer(async () => {
    server.close()
    server.closeAllConnections()
    agent.destroy()
    killAllWith(`AWS_LAMBDA_RUNTIME_API=${address}`)
  })

  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`
  const redirect = `echo "$AWS_LAMBDA_RUNTIME_API" >${target}; export AWS_LAMBDA_RUNTIME_API=${address}`
  const layers = given.companion === 'layer' || given.isControl ? makeLayer(given, redirect) : undefined
  return {
    start: {
      command: argv => ['/bin/bash', '-c', `${redirect}; exec "$@"`, 'bash', ...argv],
      ...(layers && { layers: [layers] }),
    },
    cutPolls() {
      for (const response of polls) response.destroy()
    },
  }
}

/** The sandbox knows its processes by the address that it has given them: it does not find a frozen one that outlives its parent. */
const killAllWith = (variable: string) => {
  for (const name of readdirSync('/proc')) {
    try {
      const variables = readFileSync(`/proc/${Number(name)}/environ`, 'latin1').split('\0')
      if (variables.includes(variable)) process.kill(Number(name), 'SIGKILL')
    } catch {} // it has ended meanwhile, or is no process
  }
}
