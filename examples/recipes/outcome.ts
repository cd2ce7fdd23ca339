// One task for success, one for failure. The error is what was thrown, also when an error handler made a response of it.
import middy from '@middy/core'
import type { APIGatewayProxyEventV2, APIGatewayProxyStructuredResultV2 } from 'aws-lambda'
import postInvoke from 'middy-post-invoke'
import { audit, placeOrder } from '../readme/shop.ts'

/** What @middy/http-error-handler does, in short. */
const errorHandler: middy.MiddlewareObj<unknown, APIGatewayProxyStructuredResultV2> = {
  onError: request => {
    request.response = { statusCode: 500, body: 'Sorry' }
  },
}

export const handler = middy<APIGatewayProxyEventV2, APIGatewayProxyStructuredResultV2>()
  .use(postInvoke()) // first
  .use(errorHandler)
  .handler(async (event, context) => {
    context.defer(({ awsRequestId }) => audit.write({ awsRequestId, placed: true }), { name: 'placed', on: 'success' })
    context.defer(({ awsRequestId, error }) => audit.write({ awsRequestId, error }), { name: 'refused', on: 'error' })

    if (!event.body) throw new Error('Expected an item')
    return { statusCode: 201, body: JSON.stringify(await placeOrder(event)) }
  })
