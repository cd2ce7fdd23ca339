import type { ClientRequest, IncomingMessage, ServerResponse } from 'node:http'
import { readBody, refuse, respond } from './http.ts'

const { request } = process.getBuiltinModule('node:http') // see http.ts

/**
 * The Telemetry API: tells its subscribers of platform events, by HTTP. One per environment.
 * https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api.html
 */
export const createTelemetry = (): Telemetry => {
  const subscribers = new Map<string, Subscriber>()
  const underWay = new Set<ClientRequest>()

  const subscribe = async (incoming: IncomingMessage, response: ServerResponse) => {
    const identifier = incoming.headers['lambda-extension-identifier']
    const { text } = await readBody(incoming)
    const subscription = parse(text)
    if (typeof identifier !== 'string') {
      return refuse(response, 403, 'Extension.MissingExtensionIdentifier', 'Missing Lambda-Extension-Identifier header')
    }
    if (!subscription) {
      return refuse(response, 400, 'ValidationError', 'Expected types, and a destination { protocol: "HTTP", URI }')
    }
    subscribers.set(identifier, { ...subscription, waiting: [] })
    respond(response, 200, 'OK', { 'Content-Type': 'text/plain' })
  }

  const flush = (subscriber: Subscriber) => {
    const body = JSON.stringify(subscriber.waiting.splice(0))
    delete subscriber.timer
    const sent = request({
      host: '127.0.0.1',
      port: subscriber.port,
      method: 'POST',
      path: subscriber.path,
      agent: false,
    })
    underWay.add(sent)
    sent.on('close', () => underWay.delete(sent))
    sent.on('response', answer => answer.resume())
    sent.on('error', () => {}) // what nobody takes is gone
    sent.setHeader('Content-Type', 'application/json')
    sent.end(body)
  }

  return {
    subscribe: (incoming, response) => void subscribe(incoming, response),
    emit(type, record) {
      for (const subscriber of subscribers.values()) {
        subscriber.waiting.push({ time: new Date().toISOString(), type, record })
        subscriber.timer ??= setTimeout(flush, subscriber.timeoutMs, subscriber)
      }
    },
    end() {
      for (const { timer } of subscribers.values()) clearTimeout(timer)
      for (const sent of underWay) sent.destroy()
      subscribers.clear()
    },
  }
}

export type Telemetry = {
  subscribe(request: IncomingMessage, response: ServerResponse): void
  emit(type: `platform.${string}`, record: object): void
  end(): void
}

type Subscriber = {
  readonly port: number
  readonly path: string
  readonly timeoutMs: number
  readonly waiting: object[]
  timer?: NodeJS.Timeout
}

/** Lambda's own least and default. */
const BUFFERING_MS = { least: 25, default: 1_000 }

const parse = (text: string): Pick<Subscriber, 'port' | 'path' | 'timeoutMs'> | undefined => {
  try {
    const { types, destination, buffering } = JSON.parse(text)
    // The name of the host is the environment's own: sandbox.localdomain.
    const { protocol, port, pathname } = new URL(destination.URI)
    if (!types.includes('platform') || destination.protocol !== 'HTTP' || protocol !== 'http:') return undefined
    const timeoutMs = Math.max(BUFFERING_MS.least, Number(buffering?.timeoutMs ?? BUFFERING_MS.default))
    return { port: Number(port || 80), path: pathname, timeoutMs }
  } catch {
    return undefined
  }
}
