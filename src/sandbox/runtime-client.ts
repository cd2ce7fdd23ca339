/**
 * A small runtime client: what stands between the Runtime API and the handler. It does things in the order of the
 * client of nodejs24.x, so that what holds an environment there holds it here. Unlike the real one it leaves
 * `console` alone, and its process ends at once on an uncaught error, even while it waits for an invocation.
 */
import { statSync } from 'node:fs'
import { basename, dirname, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { installGlobals, REQUEST_ID, STREAMING, TRACE_ID } from './runtime-client-globals.ts'
import { callRuntimeApi, createResponseStream, type Headers } from './runtime-client-http.ts'

type Context = ReturnType<typeof createContext>
type Handler = (...args: any[]) => unknown

const main = async () => {
  const store = installGlobals()
  const handler = await loadHandler().catch(failInit)
  const invoke = isStreaming(handler) ? invokeStreaming : invokeBuffered
  while (true) {
    const { status, headers, body } = await callRuntimeApi('GET', 'invocation/next')
    if (status !== 200) throw new Error(`The Runtime API refused the next invocation: ${status} ${body}`)
    const context = createContext(headers)
    const traceId = headers['lambda-runtime-trace-id']
    if (traceId === undefined) delete process.env._X_AMZN_TRACE_ID
    else process.env._X_AMZN_TRACE_ID = traceId
    const event = JSON.parse(body)
    // What `run` returns is awaited before the next invocation is asked for: whoever wraps it can hold this one.
    const fields = { [REQUEST_ID]: context.awsRequestId, [TRACE_ID]: traceId }
    await store.run(fields, () => invoke(handler, event, context))
  }
}

const invokeBuffered = async (handler: Handler, event: unknown, context: Context) => {
  try {
    const result = await handler(event, context)
    await immediate()
    await post(`invocation/${context.awsRequestId}/response`, result === undefined ? null : result)
  } catch (error) {
    await immediate()
    console.error('Invoke Error', error)
    await postError(`invocation/${context.awsRequestId}/error`, error)
  }
}

const invokeStreaming = async (handler: Handler, event: unknown, context: Context) => {
  const { stream, accepted, fail } = createResponseStream(context.awsRequestId)
  try {
    const returned = handler(event, stream, context)
    if (!isThenable(returned)) throw new Error('Streaming does not support non-async handlers.')
    await returned
    await accepted
    if (!stream.writableFinished) throw new Error('Response stream is not finished.')
  } catch (error) {
    await immediate()
    console.error('Invoke Error', error)
    // Not awaited, as in the real client: the invocation may end here before its trailers have left.
    fail(describe(error))
  }
}

const createContext = (headers: Headers) => {
  const deadline = Number(headers['lambda-runtime-deadline-ms'])
  return {
    clientContext: parseHeader(headers['lambda-runtime-client-context']),
    identity: parseHeader(headers['lambda-runtime-cognito-identity']),
    invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
    awsRequestId: headers['lambda-runtime-aws-request-id'] ?? '',
    xRayTraceId: headers['lambda-runtime-trace-id'],
    getRemainingTimeInMillis: () => deadline - Date.now(),
    functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: process.env.AWS_LAMBDA_FUNCTION_VERSION,
    memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: process.env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: process.env.AWS_LAMBDA_LOG_STREAM_NAME,
  }
}

const loadHandler = async (): Promise<Handler> => {
  const name = process.env._HANDLER ?? ''
  const [, file, path] = /^([^.]+)\.(.+)$/.exec(basename(name)) ?? []
  if (file === undefined || path === undefined || name.includes('..')) {
    throw named('Runtime.MalformedHandlerName', `Expected a handler like "index.handler", got "${name}"`)
  }
  const stem = resolve(process.env.LAMBDA_TASK_ROOT ?? '', dirname(name), file)
  const found = EXTENSIONS.map(extension => stem + extension).find(isFile)
  if (found === undefined) {
    throw named('Runtime.ImportModuleError', `Cannot find module "${stem}" with one of ${EXTENSIONS.join(', ')}`)
  }
  const module = await import(pathToFileURL(found).href)
  const handler = lookUp(module, path) ?? lookUp(module.default, path)
  if (typeof handler !== 'function') {
    const problem = handler === undefined ? 'undefined or not exported' : 'not a function'
    throw named('Runtime.HandlerNotFound', `${name} is ${problem}`)
  }
  if (handler.length >= 3 && !isStreaming(handler as Handler)) {
    throw named('Runtime.CallbackHandlerDeprecated', 'Callback handlers are not supported since Node.js 24')
  }
  return handler as Handler
}

const EXTENSIONS = ['', '.js', '.mjs', '.cjs', '.ts', '.mts'] as const

const isFile = (path: string) => statSync(path, { throwIfNoEntry: false })?.isFile() === true

const lookUp = (from: unknown, path: string): unknown =>
  path
    .split('.')
    .reduce<any>((value, key) => (typeof value === 'object' && value !== null ? value[key] : undefined), from)

const isStreaming = (handler: Handler): boolean => {
  const mode = (handler as { [STREAMING]?: unknown })[STREAMING]
  if (!mode || mode === 'response') return Boolean(mode)
  throw named('Runtime.MalformedStreamingHandler', 'Only response streaming is supported.')
}

const failInit = async (error: unknown): Promise<never> => {
  console.error('Init Error', error)
  await postError('init/error', error)
  throw error
}

const post = (path: string, value: unknown, headers: Headers = {}) =>
  callRuntimeApi('POST', path, stringify(value), headers)

const postError = (path: string, error: unknown) => {
  const description = describe(error)
  return post(path, description, { 'Lambda-Runtime-Function-Error-Type': description.errorType })
}

const stringify = (value: unknown) => {
  try {
    return JSON.stringify(value)
  } catch {
    throw named('Runtime.JSONStringifyError', 'Unable to stringify response body')
  }
}

const describe = (error: unknown) =>
  error instanceof Error
    ? { errorType: error.name, errorMessage: error.message, trace: error.stack?.split('\n') ?? [] }
    : { errorType: typeof error, errorMessage: String(error), trace: [] }

const named = (name: string, message: string) => Object.assign(new Error(message), { name })

const parseHeader = (value: string | undefined) => (value ? JSON.parse(value) : undefined)

const isThenable = (value: any): value is PromiseLike<unknown> => typeof value?.then === 'function'

const immediate = () => new Promise(resolve => setImmediate(resolve))

await main()
