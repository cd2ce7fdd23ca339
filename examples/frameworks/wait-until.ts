import middy from '@middy/core'
import { waitUntil } from '@vercel/functions'
import type { APIGatewayProxyEventV2, APIGatewayProxyStructuredResultV2 } from 'aws-lambda'
import postInvoke from 'middy-post-invoke'
import { metrics } from '../readme/shop.ts'

export const handler = middy<APIGatewayProxyEventV2, APIGatewayProxyStructuredResultV2>()
  .use(postInvoke({ waitUntil: true }))
  .handler(async () => {
    waitUntil(metrics.count('orders')) // as on Vercel
    return { statusCode: 201 }
  })
