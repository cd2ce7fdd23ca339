import type { MiddyfiedHandler } from '@middy/core'
import type { Context as LambdaContext } from 'aws-lambda'

/**
 * The handler itself, with the type that it has for Lambda: its context needs no `defer`, which the middleware puts there. For
 * code that asks for a handler of 'aws-lambda', and for tests that call it with a context of their own.
 *
 * @param handler - Of `middy().use(postInvoke()).handler(…)`.
 * @returns the same handler.
 *
 * @example
 * ```ts
 * import middy from '@middy/core'
 * import type { APIGatewayProxyEventV2, APIGatewayProxyHandlerV2, APIGatewayProxyStructuredResultV2 } from 'aws-lambda'
 * import postInvoke, { asLambdaHandler } from 'middy-post-invoke'
 *
 * export const handler: APIGatewayProxyHandlerV2 = asLambdaHandler(
 *   middy<APIGatewayProxyEventV2, APIGatewayProxyStructuredResultV2>()
 *     .use(postInvoke())
 *     .handler(async (event, context) => {
 *       context.defer(() => metrics.count(event.rawPath))
 *       return { statusCode: 201 }
 *     }),
 * )
 * ```
 */
export const asLambdaHandler = <Handler extends MiddyfiedHandler<any, any, any, any, any>>(
  handler: Handler,
): Handler extends MiddyfiedHandler<infer Event, infer Result, any, any, any>
  ? (event: Event, context: LambdaContext) => Promise<Result>
  : never => handler as never
