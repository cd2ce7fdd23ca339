// Tells another service, once the caller has its answer.
import middy from '@middy/core'
import type { APIGatewayProxyEventV2, APIGatewayProxyStructuredResultV2 } from 'aws-lambda'
import postInvoke from 'middy-post-invoke'

const { WEBHOOK_URL = '' } = process.env

export const handler = middy<APIGatewayProxyEventV2, APIGatewayProxyStructuredResultV2>()
  .use(postInvoke({ taskTimeout: 2_000 }))
  .handler(async (event, context) => {
    const order = { id: context.awsRequestId, item: event.body }

    context.defer(
      async ({ signal }) => {
        const response = await fetch(WEBHOOK_URL, { method: 'POST', body: JSON.stringify(order), signal })
        await response.body?.cancel()
        if (!response.ok) throw new Error(`The webhook answered ${response.status}`)
      },
      { name: 'webhook' },
    )

    return { statusCode: 201, body: JSON.stringify(order) }
  })
