/**
 * Makes `globalThis.awslambda` what it is on nodejs24.x while the handler's module loads, and returns the store that
 * every invocation is run in: the one that is there already, whoever made it, else a new one.
 */
export const installGlobals = (): InvokeStore => {
  if (['1', 'true'].includes(process.env.AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA ?? '')) return createInvokeStore()
  const host = globalThis as { awslambda?: { InvokeStore?: InvokeStore } }
  const store = host.awslambda?.InvokeStore ?? createInvokeStore()
  const installed = { ...host.awslambda, streamifyResponse, HttpResponseStream, InvokeStore: store }
  host.awslambda = installed
  return store
}

export const REQUEST_ID = Symbol.for('_AWS_LAMBDA_REQUEST_ID')
export const TRACE_ID = Symbol.for('_AWS_LAMBDA_X_RAY_TRACE_ID')
export const TENANT_ID = Symbol.for('_AWS_LAMBDA_TENANT_ID')
export const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming')

type Fields = Record<PropertyKey, unknown>

type InvokeStore = ReturnType<typeof createInvokeStore>

/** A plain field, not an AsyncLocalStorage: what is left over from an earlier invocation reads the current one's. */
const createInvokeStore = () => {
  let fields: Fields | undefined
  return {
    getContext: () => fields,
    hasContext: () => fields !== undefined,
    get: (key: PropertyKey) => fields?.[key],
    set(key: PropertyKey, value: unknown) {
      if ([REQUEST_ID, TRACE_ID, TENANT_ID].includes(key as symbol)) {
        throw new Error(`Cannot modify protected Lambda context field: ${String(key)}`)
      }
      fields = { ...fields, [key]: value }
    },
    getRequestId: () => fields?.[REQUEST_ID] ?? '-',
    getXRayTraceId: () => fields?.[TRACE_ID],
    getTenantId: () => fields?.[TENANT_ID],
    run<Result>(given: Fields, callback: () => Result): Result {
      fields = given
      return callback()
    },
  }
}

type StreamHandler = ((...args: any[]) => unknown) & { [STREAMING]?: string }

const streamifyResponse = (handler: StreamHandler) => {
  handler[STREAMING] = 'response'
  return handler
}

type LambdaStream = {
  setContentType(type: string): void
  _onBeforeFirstWrite?: (write: (chunk: string | Uint8Array) => void) => void
}

const HttpResponseStream = {
  /** Puts status, headers and cookies before the body: JSON, then eight zero bytes. */
  from<Stream extends LambdaStream>(stream: Stream, metadata: unknown): Stream {
    stream.setContentType('application/vnd.awslambda.http-integration-response')
    stream._onBeforeFirstWrite = write => {
      write(JSON.stringify(metadata))
      write(new Uint8Array(8))
    }
    return stream
  },
}
