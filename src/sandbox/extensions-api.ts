import { randomUUID } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { ExtensionEventType, ExtensionKind, ShutdownReason } from './events.ts'
import { accept, readBody, refuse, respond } from './http.ts'

/**
 * The Extensions API. One per environment. Refusals carry the error types of Lambda's own supervisor.
 * https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html
 */
export const createExtensionsApi = (
  externalNames: readonly string[],
  functionMetadata: Readonly<Record<string, string>>,
  on: ExtensionsApiListeners,
): ExtensionsApi => {
  const extensions = new Map<string, Extension>(
    externalNames.map(name => [name, { name, kind: 'external', state: 'launched', identifier: '', events: [] }]),
  )
  let isRegistrationOpen = true

  const register = async (request: IncomingMessage, response: ServerResponse) => {
    const name = request.headers['lambda-extension-name']
    const { text } = await readBody(request)
    if (typeof name !== 'string' || name === '') {
      return refuse(response, 403, 'Extension.InvalidExtensionName', 'Empty extension name')
    }
    const events = parseEvents(text)
    if (!events) return refuse(response, 403, 'InvalidRequestFormat', 'Expected a JSON object with an array "events"')

    const known = extensions.get(name)
    const kind = known?.kind ?? 'internal'
    const wrong = events.find(event => !ALLOWED_EVENTS[kind].includes(event))
    if (wrong !== undefined) {
      return refuse(response, 403, 'Extension.InvalidEventType', `${wrong}: not for an ${kind} extension`)
    }
    if (kind === 'internal' && !isRegistrationOpen) {
      return refuse(response, 403, 'Extension.RegistrationClosed', 'Extension registration closed already')
    }
    if (known && known.state !== 'launched') {
      return refuse(response, 403, 'Extension.InvalidExtensionState', 'Extension with this name already registered')
    }
    if (!known && extensions.size >= MAX_EXTENSIONS) {
      return refuse(response, 403, 'Extension.TooManyExtensions', `Extension limit (${MAX_EXTENSIONS}) reached`)
    }

    const extension: Extension = {
      name,
      kind,
      state: 'registered',
      identifier: randomUUID(),
      events: [...new Set(events as ExtensionEventType[])],
    }
    extensions.set(name, extension)
    on.registered(extension)
    const { accountId, ...metadata } = functionMetadata
    const wantsAccount = String(request.headers['lambda-extension-accept-feature']).includes('accountId')
    respond(response, 200, wantsAccount ? { ...metadata, accountId } : metadata, {
      'Lambda-Extension-Identifier': extension.identifier,
    })
  }

  const next = (extension: Extension, response: ServerResponse) => {
    // A second poll is refused even when the client gave up on the first: a poll must have no timeout of its own.
    if (extension.state === 'ready' || extension.state === 'failed') {
      return refuse(
        response,
        403,
        'Extension.InvalidExtensionState',
        `Extension ${extension.name} is ${extension.state}`,
      )
    }
    extension.state = 'ready'
    extension.poll = response
    on.next(extension)
    if (extension.shutdown) deliver(extension, extension.shutdown)
  }

  const fail = async (extension: Extension, request: IncomingMessage, response: ServerResponse, phase: string) => {
    const errorType = request.headers['lambda-extension-function-error-type']
    const { text } = await readBody(request)
    if (typeof errorType !== 'string' || errorType === '') {
      const message = 'Lambda-Extension-Function-Error-Type not found'
      return refuse(response, 403, 'Extension.MissingHeader', message)
    }
    extension.state = 'failed'
    accept(response)
    on.error(extension, phase === 'init/error' ? 'Extension.InitError' : 'Extension.ExitError', `${errorType} ${text}`)
  }

  return {
    isRegistered: name => extensions.get(name)?.state !== 'launched',
    list: () => [...extensions.values()].filter(({ state }) => state !== 'launched'),
    areAllRegistered: () => [...extensions.values()].every(({ state }) => state !== 'launched'),
    areReady: event =>
      [...extensions.values()].every(({ state, events }) => state === 'ready' || (event && !events.includes(event))),
    closeRegistration() {
      isRegistrationOpen = false
    },
    handle(request, response, path) {
      if (path === 'register' && request.method === 'POST') return void register(request, response)
      if (!ROUTES.has(`${request.method} ${path}`)) {
        return refuse(response, 404, 'NotFound', `No ${request.method} ${path} in the Extensions API`)
      }
      const identifier = request.headers['lambda-extension-identifier']
      const extension = [...extensions.values()].find(one => one.identifier === identifier)
      if (!identifier) {
        refuse(response, 403, 'Extension.MissingExtensionIdentifier', 'Missing Lambda-Extension-Identifier header')
      } else if (!UUID.test(String(identifier))) {
        refuse(response, 403, 'Extension.InvalidExtensionIdentifier', 'Invalid Lambda-Extension-Identifier')
      } else if (!extension) {
        refuse(response, 403, 'Extension.UnknownExtensionIdentifier', `Unknown extension ${identifier}`)
      } else if (path === 'event/next') next(extension, response)
      else void fail(extension, request, response, path)
    },
    invoke(event) {
      for (const extension of extensions.values()) {
        if (extension.events.includes('INVOKE')) deliver(extension, { eventType: 'INVOKE', ...event })
      }
    },
    shutdown(name, event) {
      const extension = extensions.get(name)
      if (!extension?.events.includes('SHUTDOWN')) return false
      extension.shutdown = { eventType: 'SHUTDOWN', ...event }
      if (extension.state === 'ready') deliver(extension, extension.shutdown)
      return true
    },
  }
}

export type ExtensionsApi = {
  readonly isRegistered: (name: string) => boolean
  /** Those that registered. */
  readonly list: () => readonly Extension[]
  readonly areAllRegistered: () => boolean
  /** Every extension (that subscribed to `event`, if one is given) asked for its next event. */
  readonly areReady: (event?: ExtensionEventType) => boolean
  closeRegistration(): void
  handle(request: IncomingMessage, response: ServerResponse, path: string): void
  invoke(event: InvokeEvent): void
  /** `false` when the extension did not subscribe to SHUTDOWN. One that is busy gets the event at its next poll. */
  shutdown(name: string, event: ShutdownEvent): boolean
}

export type ExtensionsApiListeners = {
  registered(extension: Extension): void
  next(extension: Extension): void
  error(extension: Extension, errorType: string, detail: string): void
}

export type Extension = {
  readonly name: string
  readonly kind: ExtensionKind
  readonly identifier: string
  readonly events: readonly ExtensionEventType[]
  state: 'launched' | 'registered' | 'ready' | 'running' | 'failed'
  poll?: ServerResponse
  shutdown?: object
}

type InvokeEvent = {
  readonly deadlineMs: number
  readonly requestId: string
  readonly invokedFunctionArn: string
  readonly tracing: { readonly type: 'X-Amzn-Trace-Id'; readonly value: string }
}

type ShutdownEvent = { readonly shutdownReason: ShutdownReason; readonly deadlineMs: number }

export const MAX_EXTENSIONS = 10

const ALLOWED_EVENTS: Record<ExtensionKind, readonly string[]> = {
  external: ['INVOKE', 'SHUTDOWN'],
  internal: ['INVOKE'],
}

const UUID = /^[\da-f]{8}-(?:[\da-f]{4}-){3}[\da-f]{12}$/i

const ROUTES = new Set(['GET event/next', 'POST init/error', 'POST exit/error'])

const parseEvents = (body: string): readonly string[] | undefined => {
  try {
    const given: unknown = JSON.parse(body)
    if (typeof given !== 'object' || Array.isArray(given)) return undefined
    // As Lambda's supervisor, which is written in Go, reads it: null is nothing.
    const events = (given as { events?: unknown } | null)?.events ?? []
    if (!Array.isArray(events)) return undefined
    const names = events.map(event => event ?? '')
    return names.every(name => typeof name === 'string') ? names : undefined
  } catch {
    return undefined
  }
}

const deliver = (extension: Extension, event: object) => {
  const { poll } = extension
  if (!poll) return
  extension.state = 'running'
  delete extension.poll
  respond(poll, 200, event, { 'Lambda-Extension-Event-Identifier': randomUUID() })
}
