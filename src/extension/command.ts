// POST_INVOKE_COMMAND: a command after each invocation, also of functions without the middleware. The Telemetry API tells
// when the runtime is done, and how it went. Loaded only where the variable is set.
// https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api.html
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { lookup } from 'node:dns/promises'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Log } from '../log.ts'

type CommandSettings = {
  readonly command: string
  readonly shell: string
  readonly on: readonly Outcome[]
}

export type Command = {
  /**
   * Waits for the end of the invocation, then runs the command, until `end` (milliseconds since the epoch). Never rejects.
   *
   * @param isOver - Whether that end is known to have been, and only its outcome is not.
   */
  after(requestId: string, end: number, isOver: boolean): Promise<void>
  /** The environment ends: the invocation whose end was never told of has failed. */
  afterLast(end: number): Promise<void>
}

type Outcome = 'response' | 'error'

/** The least that Lambda allows. */
const BUFFERING_MS = 25

const SUBSCRIBE_MS = 1_000

/** How long the end of an invocation is waited for: at first, and after a wait in vain. */
const PATIENCE_MS = { first: 2_000, later: 100 }

/** From the first signal to the last. */
const GRACE_MS = 100

/** The host under which Lambda reaches an extension. */
const HOST = 'sandbox.localdomain'

/** How long that name is looked up: Lambda has it in a file. Elsewhere a name server that does not answer would be waited for. */
const LOOKUP_MS = 200

/** Bounds of what is sent here: bytes (four times what is asked for below), connections, time. */
const MAX_BODY_BYTES = 1_048_576
const MAX_CONNECTIONS = 8
const RECEIVE_MS = 5_000

/** Of how many requests the outcome is remembered: it may be told before the invocation is. */
const REMEMBERED = 16

export const createCommand = async (
  settings: CommandSettings,
  identifier: string,
  runtimeApi: string,
  log: Log,
): Promise<Command> => {
  const outcomes = new Map<string, Outcome>()
  const waiting = new Map<string, (outcome: Outcome) => void>()
  let untold: string | undefined
  let isHeard = false
  let patience = PATIENCE_MS.first

  const tell = (requestId: string, outcome: Outcome) => {
    const resolve = waiting.get(requestId)
    if (resolve) return resolve(outcome)
    outcomes.set(requestId, outcome)
    const [oldest] = outcomes.keys()
    if (outcomes.size > REMEMBERED && oldest !== undefined) outcomes.delete(oldest)
  }

  const outcomeOf = (requestId: string, end: number) =>
    new Promise<Outcome | undefined>(resolve => {
      const told = outcomes.get(requestId)
      outcomes.delete(requestId)
      if (told) return resolve(told)
      const settle = (outcome?: Outcome) => {
        clearTimeout(timer)
        waiting.delete(requestId)
        resolve(outcome)
      }
      const timer = setTimeout(settle, Math.max(0, end - Date.now()))
      waiting.set(requestId, settle)
    })

  const run = async (requestId: string, outcome: Outcome, end: number) => {
    if (!settings.on.includes(outcome)) return
    const failure = await execute(settings, { POST_INVOKE_REQUEST_ID: requestId, POST_INVOKE_OUTCOME: outcome }, end)
    if (failure !== undefined)
      log.error(`POST_INVOKE_COMMAND after request ${requestId} ${failure}`, undefined, { requestId })
  }

  const hear = () => {
    isHeard = true
    patience = PATIENCE_MS.first
  }

  const reason = await subscribe(await listen(hear, tell), identifier, runtimeApi)
  if (reason !== undefined) {
    log.error(`POST_INVOKE_COMMAND never runs: the end of an invocation cannot be learned of (${reason})`)
    return { after: async () => {}, afterLast: async () => {} }
  }
  const logMissed = (requestId: string) => {
    const message = `POST_INVOKE_COMMAND did not run after request ${requestId}: the Telemetry API has not told of its end`
    log.error(message, undefined, { requestId })
  }

  /** An invocation whose end was not told of in its own time: it may have been since. */
  const catchUp = async (end: number, outcomeIfUntold?: Outcome) => {
    const requestId = untold
    if (requestId === undefined) return
    untold = undefined
    const outcome = outcomes.get(requestId) ?? outcomeIfUntold
    outcomes.delete(requestId)
    if (outcome) await run(requestId, outcome, end)
    else logMissed(requestId)
  }

  return {
    async after(requestId, end, isOver) {
      await catchUp(end)
      untold = requestId
      const limit = Math.min(end, Date.now() + patience)
      let outcome = await outcomeOf(requestId, isHeard && !isOver ? end : limit)
      // Heard of meanwhile: an API that tells is waited for until the end.
      if (outcome === undefined && isHeard && !isOver) outcome = await outcomeOf(requestId, end)
      if (outcome === undefined && !isOver && (isHeard || Date.now() >= end)) return // untold: catchUp() looks again
      untold = undefined
      if (outcome === undefined) {
        patience = PATIENCE_MS.later
        logMissed(requestId)
        return
      }
      await run(requestId, outcome, end)
    },
    afterLast: end => catchUp(end, 'error'),
  }
}

/** @returns what went wrong, as the end of a sentence. */
const execute = ({ shell, command }: CommandSettings, variables: Record<string, string>, end: number) =>
  new Promise<string | undefined>(resolve => {
    // A process group of its own, to be ended as one. What it writes goes to the function's log.
    const child = spawn(shell, ['-c', command], {
      env: { ...process.env, ...variables },
      stdio: ['ignore', 'inherit', 'inherit'],
      detached: true,
    })
    let isLate = false
    const signal = (name: NodeJS.Signals) => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, name)
      } catch {} // it has ended meanwhile
    }
    const left = end - Date.now() - GRACE_MS
    const terminate = setTimeout(
      () => {
        isLate = true
        signal('SIGTERM')
      },
      Math.max(0, left),
    )
    const kill = setTimeout(() => signal('SIGKILL'), Math.max(0, left) + GRACE_MS / 2)
    const done = (failure: string | undefined) => {
      clearTimeout(terminate)
      clearTimeout(kill)
      resolve(failure)
    }
    child.on('error', error => done(`could not be started: ${error.message}`))
    child.on('exit', (code, by) => {
      if (isLate) done('was ended: time was up')
      else done(code === 0 ? undefined : `ended with ${code ?? by}`)
    })
  })

/**
 * Takes what is told at an address that nobody else can know: whatever runs in this environment could send something here, or
 * could be made to by a URL.
 *
 * @returns that address.
 */
const listen = async (hear: () => void, tell: (requestId: string, outcome: Outcome) => void): Promise<string> => {
  const path = `/${randomUUID()}`
  const server = http.createServer((request, response) => {
    if (request.method !== 'POST' || request.url !== path) return refuse(request, response, 404)
    const chunks: Buffer[] = []
    let length = 0
    request.on('data', (chunk: Buffer) => {
      length += chunk.length
      if (length > MAX_BODY_BYTES) return refuse(request, response, 413)
      chunks.push(chunk)
    })
    request.on('end', () => {
      response.end()
      hear()
      for (const { requestId, status } of endsIn(Buffer.concat(chunks).toString())) {
        tell(requestId, status === 'success' ? 'response' : 'error')
      }
    })
  })
  server.maxConnections = MAX_CONNECTIONS
  server.requestTimeout = RECEIVE_MS
  server.unref()
  const host = await ownAddress()
  await new Promise<void>((resolve, reject) => {
    server.on('error', reject)
    server.listen(0, host, resolve)
  })
  return `http://${HOST}:${(server.address() as AddressInfo).port}${path}`
}

const refuse = (request: http.IncomingMessage, response: http.ServerResponse, status: number) => {
  response.writeHead(status, { Connection: 'close' }).end(() => request.destroy())
}

/** That of {@link HOST}, which is reached from inside the environment alone; in an emulator loopback. */
const ownAddress = async (): Promise<string> => {
  const loopback = '127.0.0.1'
  const named = lookup(HOST, { family: 4 }).then(
    ({ address }) => address,
    () => loopback,
  )
  const late = new Promise<string>(resolve => {
    setTimeout(resolve, LOOKUP_MS, loopback).unref()
  })
  return Promise.race([named, late])
}

const endsIn = (text: string): { requestId: string; status: string }[] => {
  try {
    const events = JSON.parse(text) as { type?: unknown; record?: { requestId?: unknown; status?: unknown } }[]
    return events.flatMap(({ type, record }) =>
      type === 'platform.runtimeDone' ? [{ requestId: String(record?.requestId), status: String(record?.status) }] : [],
    )
  } catch {
    return []
  }
}

/** @returns why that failed, or `undefined`. */
const subscribe = (uri: string, identifier: string, runtimeApi: string) =>
  new Promise<string | undefined>(resolve => {
    const { hostname, port: apiPort } = new URL(`http://${runtimeApi}`)
    const body = JSON.stringify({
      schemaVersion: '2022-12-13',
      types: ['platform'],
      buffering: { maxItems: 1_000, maxBytes: 262_144, timeoutMs: BUFFERING_MS },
      destination: { protocol: 'HTTP', URI: uri },
    })
    const request = http.request({
      host: hostname,
      port: apiPort || 80,
      method: 'PUT',
      path: '/2022-07-01/telemetry',
      agent: false,
      headers: { 'Lambda-Extension-Identifier': identifier, 'Content-Type': 'application/json' },
      timeout: SUBSCRIBE_MS,
    })
    request.on('response', response => {
      response.resume()
      // The emulator answers 202, and then sends nothing.
      resolve(response.statusCode === 200 ? undefined : `the Telemetry API answered with ${response.statusCode}`)
    })
    request.on('timeout', () => request.destroy(new Error('the Telemetry API does not answer')))
    request.on('error', error => resolve(error.message))
    request.end(body)
  })
