import middy from '@middy/core'
import type { APIGatewayProxyEventV2, APIGatewayProxyStructuredResultV2 } from 'aws-lambda'
import postInvoke from 'middy-post-invoke'
import withHandOff from 'middy-post-invoke/hand-off'
import { placeOrder } from './shop.ts'

export const handler = middy<APIGatewayProxyEventV2, APIGatewayProxyStructuredResultV2>()
  .use(postInvoke())
  .use(withHandOff<typeof import('./jobs.ts')>())
  .handler(async (event, context) => {
    const order = await placeOrder(event)
    context.handOff({ url: 'https://hooks.example/orders', body: JSON.stringify(order) }) // a request
    context.handOff('archive', order) // a job: a function of the module that POST_INVOKE_JOBS names
    return { statusCode: 201, body: JSON.stringify(order) }
  })
