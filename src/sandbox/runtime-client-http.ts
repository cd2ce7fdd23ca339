/** The runtime client's side of the Runtime API, over one connection that stays open. */
import type { ClientRequest, OutgoingHttpHeaders } from 'node:http'

// An `import` of node:http with its names costs a cold start some 37 ms; this one costs next to nothing.
const { Agent, request } = process.getBuiltinModule('node:http')

export type Headers = Readonly<Record<string, string | undefined>>

const [hostname, port] = (process.env.AWS_LAMBDA_RUNTIME_API ?? '').split(':')
const agent = new Agent({ keepAlive: true, maxSockets: 1 })
const send = (method: string, path: string, headers: OutgoingHttpHeaders = {}): ClientRequest =>
  request({ hostname, port, method, path: `/2018-06-01/runtime/${path}`, headers, agent })

/**
 * Resolves when the answer has been read. The real client posts with a blocking call; here the bytes are at least on
 * the open connection before the next turn of the event loop begins, so that work which blocks it cannot hold them.
 */
export const callRuntimeApi = (
  method: 'GET' | 'POST',
  path: string,
  body = '',
  headers: Headers = {},
): Promise<{ status: number | undefined; headers: Headers; body: string }> =>
  new Promise((resolve, reject) => {
    const call = send(method, path, {
      ...headers,
      ...(method === 'POST' ? { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) } : {}),
    })
    call.once('error', reject)
    call.once('response', response => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', chunk => {
        text += chunk
      })
      response.once('error', reject)
      response.once('end', () => {
        resolve({ status: response.statusCode, headers: response.headers as Headers, body: text })
      })
    })
    call.end(body)
  })

/** Opens a streamed response. `accepted` settles when the Runtime API has taken all of it. */
export const createResponseStream = (requestId: string) => {
  const call = send('POST', `invocation/${encodeURIComponent(requestId)}/response`, {
    'Lambda-Runtime-Function-Response-Mode': 'streaming',
    Trailer: [ERROR_TYPE, ERROR_BODY],
    'Content-Type': 'application/octet-stream',
    'Transfer-Encoding': 'chunked',
  })
  const accepted = new Promise<void>((resolve, reject) => {
    call.once('error', reject)
    call.once('response', response => {
      response.once('end', resolve)
      response.once('aborted', reject)
      response.resume()
    })
  })
  // A handler that throws leaves nobody to wait for it.
  accepted.catch(() => {})

  let isWritten = false
  const write = call.write.bind(call) as (...args: unknown[]) => boolean
  const extras: Record<PropertyKey, unknown> = {
    setContentType(type: string) {
      if (isWritten) throw new Error('Cannot set content-type, too late.')
      call.setHeader('Content-Type', type)
    },
    write(chunk: unknown, ...rest: unknown[]) {
      if (!isWritten && typeof extras._onBeforeFirstWrite === 'function') extras._onBeforeFirstWrite(write)
      isWritten = true
      const isData = typeof chunk === 'string' || chunk instanceof Uint8Array
      return write(isData ? chunk : JSON.stringify(chunk), ...rest)
    },
  }
  return {
    stream: showAsWritable(call, extras),
    accepted,
    fail(description: { errorType: string }) {
      call.addTrailers({
        [ERROR_TYPE]: description.errorType,
        [ERROR_BODY]: Buffer.from(JSON.stringify(description)).toString('base64'),
      })
      call.end()
    },
  }
}

const ERROR_TYPE = 'Lambda-Runtime-Function-Error-Type'
const ERROR_BODY = 'Lambda-Runtime-Function-Error-Body'

/** The handler sees a writable stream and no HTTP request: the real client shows these members and no others. */
const showAsWritable = (call: ClientRequest, extras: Record<PropertyKey, unknown>): any => {
  const isShown = (key: PropertyKey) => SHOWN.has(key) || key in extras
  return new Proxy(extras, {
    has: (_, key) => isShown(key),
    get(_, key) {
      if (key in extras) return extras[key]
      if (!SHOWN.has(key)) return undefined
      const value = (call as any)[key]
      return typeof value === 'function' ? value.bind(call) : value
    },
  })
}

const SHOWN = new Set<PropertyKey>(
  [
    'addListener cork destroy destroyed emit end eventNames getMaxListeners listenerCount listeners off on once',
    'prependListener prependOnceListener rawListeners removeAllListeners removeListener setMaxListeners uncork',
    'writable writableCorked writableEnded writableFinished writableHighWaterMark writableLength writableNeedDrain',
    'writableObjectMode',
  ].flatMap(names => names.split(' ')),
)
