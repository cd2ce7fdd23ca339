// The companion script, run by a real bash beside an Extensions API on a raw socket and a function's process whose lines are
// written by hand.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, constants, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import net, { type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { childText } from '../../scripts/companion-text.ts'
import { until } from '../unit/helpers.ts'

export const source = fileURLToPath(new URL('../../src/extension/post-invoke.sh', import.meta.url))

/** What functions bundle of it. */
export const bundled = childText(readFileSync(source, 'utf8'))

/** A request as it came, and the connection that waits for its answer. */
export type Received = { head: string; body: string; socket: Socket }

export type Api = {
  readonly address: string
  readonly port: number
  /** All requests so far. */
  readonly requests: readonly Received[]
  /** How often an event has been asked for. */
  asked(): number
  /** The next request that has not been taken. */
  take(): Promise<Received>
  /** Answers a request for an event, once there is one. */
  answer(event: unknown): Promise<void>
  /** Answers it with these bytes. */
  send(...parts: (string | Buffer)[]): Promise<Socket>
  /** Breaks off the connection of the request for an event. */
  cut(): Promise<void>
  /** Nobody listens any more, and all connections are closed. */
  close(): void
}

export const IDENTIFIER = '0f1e2d3c-an-identifier'

/** @param onRequest - Called with each request as it arrives. */
export const startApi = async (onRequest?: (request: Received) => void): Promise<Api> => {
  const requests: Received[] = []
  const sockets = new Set<Socket>()
  let taken = 0
  const server = net.createServer({ noDelay: true }, socket => {
    sockets.add(socket)
    let text = ''
    socket.setEncoding('latin1')
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
    socket.on('data', chunk => {
      text += chunk
      for (;;) {
        const end = text.indexOf('\r\n\r\n')
        if (end < 0) return
        const head = text.slice(0, end)
        const length = Number(/^content-length: (\d+)/im.exec(head)?.[1] ?? 0)
        if (text.length < end + 4 + length) return
        const request = { head, body: text.slice(end + 4, end + 4 + length), socket }
        requests.push(request)
        text = text.slice(end + 4 + length)
        onRequest?.(request)
      }
    })
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo
  const take = async () => {
    await until(() => requests.length > taken, `request ${taken + 1}`)
    return requests[taken++] as Received
  }
  return {
    port,
    address: `127.0.0.1:${port}`,
    requests,
    asked: () => requests.filter(({ head }) => head.startsWith('GET /2020-01-01/extension/event/next ')).length,
    take,
    answer: async event => void (await take()).socket.write(answerWith(event)),
    async send(...parts) {
      const { socket } = await take()
      for (const part of parts) {
        socket.write(part)
        await new Promise(resolve => setTimeout(resolve, 10)) // each in a segment of its own
      }
      return socket
    },
    cut: async () => void (await take()).socket.resetAndDestroy(),
    close() {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}

/** As the Extensions API answers. */
export const answerWith = (body: unknown, status = '200 OK', headers = ''): string => {
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  const date = 'Fri, 21 Nov 2025 17:00:00 GMT'
  return `HTTP/1.1 ${status}\r\nContent-Type: application/json\r\n${headers}Date: ${date}\r\nContent-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`
}

export const inAMinute = () => Date.now() + 60_000

export const invoke = (requestId: string, deadlineMs: unknown = inAMinute()) => ({
  eventType: 'INVOKE',
  deadlineMs,
  requestId,
  invokedFunctionArn: 'arn:aws:lambda:eu-west-1:123456789012:function:f',
  tracing: {
    type: 'X-Amzn-Trace-Id',
    value: 'Root=1-67891233-abcdef012345678912345678;Parent=53995c3f42cd8ad8;Sampled=1',
  },
})

export const shutdown = {
  eventType: 'SHUTDOWN',
  shutdownReason: 'SPINDOWN',
  get deadlineMs() {
    return inAMinute()
  },
}

export type Role = 'layer' | 'internal' | 'sigterm'

/** The function's end of the FIFO or of the socket. */
export type FunctionProcess = {
  say(...lines: string[]): void
  /** Bytes that need not end with a line. */
  write(bytes: string): void
  /** The process is gone. */
  end(): void
}

export type Companion = {
  readonly api: Api
  readonly pid: number
  readonly process: ChildProcess
  readonly folder: string
  readonly fifo: string
  readonly tasks: string
  /** What it has logged. */
  lines(): string[]
  /** What it has answered over its socket. */
  replies(): string[]
  readonly ended: Promise<number | string>
  /** Opens the FIFO as a function's process does; in the other roles it is there from the start. */
  connect(): FunctionProcess
  writeLastWords(gone: string, late?: string): void
}

export type StartOptions = {
  role?: Role
  api?: Api
  env?: Record<string, string>
  folder?: string
  /** Not the source, but another file or text. */
  script?: string
  /** Before it is started, in its folder. */
  prepare?: (fifo: string) => void
  /** Whether its registration is not answered here. */
  isUnregistered?: boolean
}

/** Starts it and, unless told otherwise, answers its registration. */
export const startCompanion = async (cleanUp: AsyncDisposableStack, options: StartOptions = {}): Promise<Companion> => {
  const { role = 'layer' } = options
  const api = options.api ?? (await startApi())
  const folder = options.folder ?? mkdtempSync(join(tmpdir(), 'post-invoke-'))
  const fifo = `${folder}/.middy-post-invoke-1-${api.port}`
  options.prepare?.(fifo)
  const env: Record<string, string> = {
    AWS_LAMBDA_RUNTIME_API: api.address,
    POST_INVOKE_FOLDER: folder,
    ...options.env,
  }
  const child =
    role === 'layer'
      ? spawn(options.script ?? source, [], {
          env: { TZ: 'UTC0', PATH: process.env.PATH ?? '', ...env },
          stdio: ['ignore', 'ignore', 'pipe'],
        })
      : spawn(
          '/bin/bash',
          [
            ...['--norc', '-p', '-c', options.script ?? bundled, 'middy-post-invoke'],
            role === 'internal' ? '"INVOKE"' : '',
            `${env.POST_INVOKE_FOLDER}/.middy-post-invoke-1-${api.port}.tasks`,
            env.AWS_LAMBDA_LOG_FORMAT?.toUpperCase() === 'JSON' ? '1' : '',
          ],
          {
            env: { AWS_LAMBDA_RUNTIME_API: env.AWS_LAMBDA_RUNTIME_API },
            detached: true,
            stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
          },
        )
  let log = ''
  child.stderr?.setEncoding('utf8').on('data', text => {
    log += text
  })
  let reply = ''
  const socket = child.stdio[3] as Duplex | undefined
  socket
    ?.on('error', () => {})
    .on('data', text => {
      reply += text
    })
  const ended = new Promise<number | string>(resolve => {
    child.on('close', (code, signal) => resolve(code ?? String(signal)))
  })
  cleanUp.defer(async () => {
    child.kill('SIGKILL')
    socket?.destroy()
    api.close()
    await ended
    rmSync(folder, { recursive: true, force: true })
  })
  const lines = (text: string) => text.split('\n').filter(line => line !== '')
  const companion: Companion = {
    api,
    folder,
    fifo,
    ended,
    process: child,
    pid: child.pid as number,
    tasks: `${fifo}.tasks`,
    lines: () => lines(log),
    replies: () => lines(reply),
    connect() {
      const asLines = (said: string[]) => said.map(line => `${line}\n`).join('')
      if (socket) {
        return {
          say: (...said) => void socket.write(asLines(said)),
          write: bytes => void socket.write(bytes),
          end: () => socket.destroy(),
        }
      }
      const descriptor = openSync(fifo, constants.O_WRONLY | constants.O_NONBLOCK)
      let isOpen = true
      const end = () => {
        if (isOpen) closeSync(descriptor)
        isOpen = false
      }
      cleanUp.defer(end)
      return {
        say: (...said) => void writeSync(descriptor, asLines(said)),
        write: bytes => void writeSync(descriptor, bytes),
        end,
      }
    },
    writeLastWords: (gone, late = '') => writeFileSync(`${fifo}.tasks`, `${gone}\n${late}\n`, { mode: 0o600 }),
  }
  if (options.isUnregistered) return companion
  const { socket: registration } = await api.take()
  registration.write(answerWith('{}', '200 OK', `Lambda-Extension-Identifier: ${IDENTIFIER}\r\n`))
  await until(() => api.asked() === 1, 'it asks for its first event')
  return companion
}
