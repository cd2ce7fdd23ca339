import type { IncomingMessage, ServerResponse } from 'node:http'
import { accept, readBody, refuse, respond } from './http.ts'

/**
 * The Runtime API: what the function's runtime client talks to. One per environment.
 * https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
 */
export const createRuntimeApi = (on: RuntimeApiListeners): RuntimeApi => {
  let state: RuntimeState = 'starting'
  let invocation: RuntimeInvocation | undefined
  let poll: ServerResponse | undefined
  let pollAfterAnswer: ServerResponse | undefined

  const next = (response: ServerResponse) => {
    // A client may ask before the last of its streamed answer has been read here: it does not wait for its trailers.
    if (state === 'answering') {
      pollAfterAnswer = response
      return
    }
    // A client that asks again before it has answered is given the same event again.
    if (state === 'running' && invocation) return respondWithInvocation(response, invocation)
    state = 'ready'
    invocation = undefined
    poll = response
    on.next()
  }

  const answer = async (request: IncomingMessage, response: ServerResponse, id: string, kind: 'response' | 'error') => {
    if (id !== invocation?.requestId) return refuse(response, 400, 'InvalidRequestID', 'Invalid request ID')
    if (state !== 'running') return refuseTransition(response, state)
    const answered = invocation
    state = 'answering'
    const end = (posted: PostedAnswer) => {
      // A reset may have ended the invocation while its answer was being read.
      if (invocation !== answered) return
      state = 'answered'
      on.answer(posted)
      if (pollAfterAnswer) next(pollAfterAnswer)
      pollAfterAnswer = undefined
    }

    const mode = request.headers['lambda-runtime-function-response-mode']
    const streamed = mode === 'streaming'
    if (mode !== undefined && !streamed) {
      end(platformError('Runtime.InvalidResponseModeHeader', `Invalid response mode ${mode}`))
      return refuse(response, 400, 'InvalidFunctionResponseMode', 'Invalid function response mode')
    }

    const contentType = request.headers['content-type']
    const body = await readBody(request, streamed ? on.firstByte : undefined)
    await on.beforeAnswer()
    const shape = { payload: body.text, streamed, ...(contentType === undefined ? {} : { contentType }) }
    if (!body.complete) {
      return end({ ...shape, kind: 'error', errorType: 'Runtime.TruncatedResponse' })
    }
    if (!streamed && body.bytes > MAX_PAYLOAD_BYTES) {
      const message = `Response payload size exceeded maximum allowed payload size (${MAX_PAYLOAD_BYTES} bytes).`
      end(platformError('Function.ResponseSizeTooLarge', message))
      return refuse(response, 413, 'RequestEntityTooLarge', message)
    }
    if (kind === 'error') {
      const errorType = header(request, 'lambda-runtime-function-error-type') ?? parseError(body.text).errorType
      end({ ...shape, kind: 'error', errorType })
      return accept(response)
    }
    const trailers = readTrailers(request)
    end(
      trailers.errorType === undefined
        ? { ...shape, kind: 'response' }
        : { ...shape, kind: 'error', errorType: trailers.errorType, trailers },
    )
    accept(response)
  }

  const initError = async (request: IncomingMessage, response: ServerResponse) => {
    if (state !== 'starting') return refuseTransition(response, state)
    const { text } = await readBody(request)
    state = 'failed'
    const posted = parseError(text)
    on.initError({ ...posted, errorType: header(request, 'lambda-runtime-function-error-type') ?? posted.errorType })
    accept(response)
  }

  return {
    isStarting: () => state === 'starting',
    isReady: () => state === 'ready',
    isAnswering: () => state === 'answering',
    handle(request, response, path) {
      const [, id, action] = /^invocation\/([^/]+)\/(response|error)$/.exec(path) ?? []
      if (path === 'invocation/next' && request.method === 'GET') next(response)
      else if (id !== undefined && request.method === 'POST') {
        void answer(request, response, decodeURIComponent(id), action as 'response' | 'error')
      } else if (path === 'init/error' && request.method === 'POST') void initError(request, response)
      else refuse(response, 404, 'NotFound', `No ${request.method} ${path} in the Runtime API`)
    },
    invoke(given) {
      invocation = given
      state = 'running'
      if (poll) respondWithInvocation(poll, given)
      poll = undefined
    },
    abandon() {
      invocation = undefined
    },
  }
}

export type RuntimeApi = {
  readonly isStarting: () => boolean
  /** The runtime asked for its next invocation and has none. */
  readonly isReady: () => boolean
  /** An answer has begun to come in. */
  readonly isAnswering: () => boolean
  handle(request: IncomingMessage, response: ServerResponse, path: string): void
  invoke(invocation: RuntimeInvocation): void
  /** Whatever is posted from now on comes too late. */
  abandon(): void
}

export type RuntimeApiListeners = {
  next(): void
  firstByte(): void
  /** An answer has been read, and nobody has been told yet. */
  beforeAnswer(): Promise<void>
  answer(answer: PostedAnswer): void
  initError(error: InitError): void
}

export type InitError = { readonly errorType: string; readonly message: string }

export type RuntimeInvocation = {
  readonly requestId: string
  readonly payload: string
  readonly headers: Readonly<Record<string, string>>
}

export type PostedAnswer = {
  readonly kind: 'response' | 'error'
  readonly payload: string
  readonly streamed: boolean
  readonly contentType?: string
  readonly errorType?: string
  readonly trailers?: ErrorTrailers
}

/** What a streamed response that failed half-way says at its end. */
export type ErrorTrailers = {
  /** `Lambda-Runtime-Function-Error-Type`. */
  readonly errorType?: string
  /** `Lambda-Runtime-Function-Error-Body`, decoded from base64. */
  readonly errorBody?: string
}

type RuntimeState = 'starting' | 'ready' | 'running' | 'answering' | 'answered' | 'failed'

const MAX_PAYLOAD_BYTES = 6 * 1024 * 1024 + 100

export const platformError = (errorType: string, errorMessage: string): PostedAnswer => ({
  kind: 'error',
  streamed: false,
  errorType,
  payload: JSON.stringify({ errorType, errorMessage }),
})

const respondWithInvocation = (response: ServerResponse, { headers, payload }: RuntimeInvocation) =>
  respond(response, 200, payload, headers)

const refuseTransition = (response: ServerResponse, state: RuntimeState) =>
  refuse(response, 403, 'InvalidStateTransition', `Not allowed while the runtime is ${state}`)

const header = (request: IncomingMessage, name: string): string | undefined => {
  const value = request.headers[name]
  return typeof value === 'string' && value !== '' ? value : undefined
}

const parseError = (body: string): InitError => {
  try {
    const { errorType, errorMessage } = JSON.parse(body)
    return { errorType: String(errorType ?? 'Unhandled'), message: String(errorMessage ?? body) }
  } catch {
    return { errorType: 'Unhandled', message: body }
  }
}

const readTrailers = ({ trailers }: IncomingMessage): ErrorTrailers => {
  const errorType = trailers['lambda-runtime-function-error-type']
  const errorBody = trailers['lambda-runtime-function-error-body']
  return {
    ...(errorType === undefined ? {} : { errorType }),
    ...(errorBody === undefined ? {} : { errorBody: Buffer.from(errorBody, 'base64').toString('utf8') }),
  }
}
