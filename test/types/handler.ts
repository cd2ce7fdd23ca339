// What a handler and hooks know once the middleware is in use. Compiled, never run.
import middy from '@middy/core'
import type {
  APIGatewayProxyEventV2,
  APIGatewayProxyHandlerV2,
  APIGatewayProxyStructuredResultV2,
  Handler,
  Context as LambdaContext,
  SQSBatchResponse,
  SQSEvent,
  SQSHandler,
} from 'aws-lambda'
import postInvoke, { asLambdaHandler, type Context, type Defer } from '../../src/index.ts'
import { check, type Same } from './expect.ts'

type Event = APIGatewayProxyEventV2
type Result = APIGatewayProxyStructuredResultV2

// --- .use(postInvoke()).handler(…)

export const handler = middy<Event, Result>()
  .use(postInvoke())
  .handler(async (event, context) => {
    check<Same<typeof event, Event>>()
    check<Same<typeof context.defer, Defer>>()
    check<Same<typeof context.awsRequestId, string>>()
    context.defer(() => {})
    return { statusCode: 201 }
  })

export const withoutTypes = middy()
  .use(postInvoke())
  .handler(async (_event, context) => {
    check<Same<typeof context.defer, Defer>>()
    context.defer(() => {})
  })

export const withoutIt = middy<Event, Result>().handler(async (_event, context) => {
  // @ts-expect-error no middleware, no defer
  context.defer(() => {})
  return {}
})

export const usedTooLate = middy<Event, Result>()
  .before(({ context }) => {
    // @ts-expect-error it is used only afterwards
    context.defer(() => {})
  })
  .use(postInvoke())

export const handlerOfItsOwn = async (event: SQSEvent, context: Context): Promise<number> => {
  context.defer(() => event.Records.length)
  return event.Records.length
}
export const fromOne = middy<SQSEvent, number>().use(postInvoke()).handler(handlerOfItsOwn)

// @ts-expect-error a handler that asks for what no middleware brings
export const missing = middy<SQSEvent, number>().handler(handlerOfItsOwn)

export const resultIsChecked = middy<Event, Result>()
  .use(postInvoke())
  // @ts-expect-error 'created' is no status code
  .handler(async () => ({ statusCode: 'created' }))

// --- arrays of middlewares

const timing: middy.MiddlewareObj<unknown, any, Error, LambdaContext & { startedAt: number }> = {
  before: ({ context }) => {
    context.startedAt = Date.now()
  },
}

export const inAnArray = middy<Event, Result>()
  .use([postInvoke()])
  .handler(async (_event, context) => {
    check<Same<typeof context.defer, Defer>>()
    return {}
  })

export const afterAnother = middy<Event, Result>()
  .use(timing)
  .use(postInvoke())
  .handler(async (_event, context) => {
    check<Same<typeof context.defer, Defer>>()
    check<Same<typeof context.startedAt, number>>()
    return {}
  })

export const amongOthers = middy<Event, Result>()
  .use([postInvoke(), { after: () => undefined }])
  .handler(async (_event, context) => {
    context.defer(() => {})
    return {}
  })

// --- inline hooks

export const inlineHooks = middy<Event, Result>()
  .use(postInvoke())
  .before(({ context, event }) => {
    check<Same<typeof context.defer, Defer>>()
    check<Same<typeof event, Event>>()
    context.defer(() => {})
  })
  .after(({ context, response }) => {
    context.defer(() => response?.statusCode)
  })
  .onError(({ context, error }) => {
    context.defer(() => error?.message, { on: 'error' })
  })
  .handler(async () => ({}))

// --- the handler as others see it

export const called = (event: Event, context: Context) => {
  const answer = handler(event, context)
  check<Same<typeof answer, Promise<Result>>>()
  return answer
}

export const inATest = (event: Event) => handler(event, {} as Context)

// @ts-expect-error a context of Lambda has no defer: the middleware puts it there
export const calledWithABareContext = (event: Event, context: LambdaContext) => handler(event, context)

// @ts-expect-error nor is it a Handler of 'aws-lambda', whose context has none
export const notPlain: Handler<Event, Result> = handler

// --- as those see it who ask for a handler of 'aws-lambda'

export const plain = asLambdaHandler(handler)
check<Same<typeof plain, (event: Event, context: LambdaContext) => Promise<Result>>>()
export const asHandler: Handler<Event, Result> = plain
export const asProxyHandler: APIGatewayProxyHandlerV2 = asLambdaHandler(
  middy<Event, Result>()
    .use(postInvoke())
    .handler(async (_event, context) => {
      check<Same<typeof context.defer, Defer>>()
      context.defer(() => {})
      return { statusCode: 201 }
    }),
)
export const asSqsHandler: SQSHandler = asLambdaHandler(
  middy<SQSEvent, SQSBatchResponse>()
    .use([timing, postInvoke()])
    .handler(async () => ({ batchItemFailures: [] })),
)
export const inAnOldTest = async (event: Event): Promise<Result> => plain(event, {} as LambdaContext)

// @ts-expect-error a result of another kind
export const wrongResult: Handler<Event, number> = asLambdaHandler(handler)

// @ts-expect-error an event of another kind
export const wrongEvent = (event: SQSEvent, context: LambdaContext) => asLambdaHandler(handler)(event, context)

// @ts-expect-error no handler of Middy: withPostInvoke() is for those
asLambdaHandler(async (event: Event) => event.rawPath)
