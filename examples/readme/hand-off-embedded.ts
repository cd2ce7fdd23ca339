import middy from '@middy/core'
import type { APIGatewayProxyEventV2, APIGatewayProxyStructuredResultV2 } from 'aws-lambda'
import postInvoke from 'middy-post-invoke'
import withHandOff from 'middy-post-invoke/hand-off'
import 'middy-post-invoke/hand-off/embedded' // runs what is handed off, in the function's own process

export const handler = middy<APIGatewayProxyEventV2, APIGatewayProxyStructuredResultV2>()
  .use(postInvoke())
  .use(withHandOff())
  .handler(async (_event, context) => {
    context.handOff({ url: 'https://hooks.example/orders', method: 'POST' })
    return { statusCode: 204 }
  })
