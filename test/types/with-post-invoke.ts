// Handlers without Middy. Compiled, never run.
import { configure } from '@codegenie/serverless-express'
import type {
  APIGatewayProxyEventV2,
  APIGatewayProxyHandlerV2,
  APIGatewayProxyStructuredResultV2,
  Handler,
  Context as LambdaContext,
  SQSEvent,
  SQSHandler,
  StreamifyHandler,
} from 'aws-lambda'
import express from 'express'
import { Hono } from 'hono'
import { handle, streamHandle } from 'hono/aws-lambda'
import {
  type Context,
  type Defer,
  type defer,
  type ExecutionContext,
  type onShutdown,
  type PostInvokeError,
  type resource,
  withExecutionContext,
  withPostInvoke,
} from '../../src/handler.ts'
import type * as index from '../../src/index.ts'
import { check, type Same } from './expect.ts'

type Event = APIGatewayProxyEventV2
type Result = APIGatewayProxyStructuredResultV2

// --- one of two parameters

export const handler = withPostInvoke(async (event: Event, context) => {
  check<Same<typeof context, Context>>()
  check<Same<typeof context.defer, Defer>>()
  context.defer(() => event.rawPath)
  return { statusCode: 201 }
})
check<Same<typeof handler, (event: Event, context: LambdaContext) => Promise<{ statusCode: number }>>>()

export const asHandler: Handler<Event, Result> = withPostInvoke(async (_event: Event, { defer }): Promise<Result> => {
  defer(() => {})
  return {}
})
export const typed: Handler<SQSEvent, number> = withPostInvoke<SQSEvent, number>(async event => event.Records.length)
export const withOptions = withPostInvoke(async () => 'answer', { order: 'fifo', shutdown: true })
check<Same<typeof withOptions, (event: unknown, context: LambdaContext) => Promise<string>>>()
export const synchronous = withPostInvoke((event: SQSEvent) => event.Records.length)
check<Same<ReturnType<typeof synchronous>, Promise<number>>>()

const apart = async (_event: SQSEvent, context: Context) => context.defer(() => {})
export const fromApart = withPostInvoke(apart)

export const called = (event: Event, context: LambdaContext) => handler(event, context)
// @ts-expect-error an event of another kind
export const wrongEvent = (event: SQSEvent, context: LambdaContext) => handler(event, context)

// @ts-expect-error what is no handler
withPostInvoke('index.handler')
// @ts-expect-error what is no handler
withPostInvoke()
// @ts-expect-error a typo
withPostInvoke(async () => {}, { concurency: 4 })
// @ts-expect-error a handler that asks for what no wrapper brings
withPostInvoke(async (_event: Event, context: Context & { user: string }) => context.user)

// --- typed as a Handler of 'aws-lambda'

declare const api: APIGatewayProxyHandlerV2
export const wrappedApi: APIGatewayProxyHandlerV2 = withPostInvoke(api)
declare const queue: SQSHandler
export const wrappedQueue: SQSHandler = withPostInvoke(queue)
declare const plain: Handler<Event, Result>
export const wrappedPlain = withPostInvoke(plain)
check<Same<ReturnType<typeof wrappedPlain>, Promise<Result>>>()

// --- streamed

export const streamed = awslambda.streamifyResponse(
  withPostInvoke(async (_event: Event, responseStream: awslambda.HttpResponseStream, context: Context) => {
    check<Same<typeof context.defer, Defer>>()
    responseStream.end('a text')
    context.defer(() => {})
  }),
)
check<Same<typeof streamed, StreamifyHandler<Event, void>>>()

export const marked: StreamifyHandler = withPostInvoke(
  awslambda.streamifyResponse(async (_event, responseStream) => void responseStream.end()),
)

// --- frameworks

const app = new Hono<{ Bindings: { stage: string } }>()
app.get('/', c => {
  c.executionCtx.waitUntil(Promise.resolve())
  return c.text('')
})
check<Same<ReturnType<typeof withExecutionContext<typeof app>>, typeof app>>()
export const hono = withPostInvoke(handle(withExecutionContext(app)))
export const honoStreamed = withPostInvoke(streamHandle(withExecutionContext(app)))
export const ofFetch = withExecutionContext({
  fetch: async (request: Request, _env: object, context?: ExecutionContext) => {
    context?.waitUntil(request.text())
    return new Response()
  },
})
// @ts-expect-error nothing with a fetch
withExecutionContext({})

export const expressHandler = withPostInvoke(configure({ app: express() }))
export const asExpress: Handler = withPostInvoke(configure<Event, Result>({ app: express() }))

// --- the rest of the entry is that of the middleware's

check<Same<typeof defer, typeof index.defer>>()
check<Same<typeof onShutdown, typeof index.onShutdown>>()
check<Same<typeof resource, typeof index.resource>>()
check<Same<typeof PostInvokeError, typeof index.PostInvokeError>>()
