// A chat command: Slack and Discord want an answer within 3 seconds, and take the result later, at an address in the event.
import { setTimeout as sleep } from 'node:timers/promises'
import middy from '@middy/core'
import type { APIGatewayProxyEventV2, APIGatewayProxyStructuredResultV2 } from 'aws-lambda'
import postInvoke from 'middy-post-invoke'

export const handler = middy<APIGatewayProxyEventV2, APIGatewayProxyStructuredResultV2>()
  .use(postInvoke())
  .handler(async (event, context) => {
    const command = new URLSearchParams(event.body)
    const responseUrl = command.get('response_url') ?? ''

    context.defer(
      async ({ signal }) => {
        const text = await report(command.get('text') ?? '', signal)
        await fetch(responseUrl, { method: 'POST', body: JSON.stringify({ text }), signal })
      },
      { name: 'report' },
    )

    return { statusCode: 200, body: 'On it …' }
  })

const report = async (subject: string, signal: AbortSignal): Promise<string> => {
  await sleep(50, undefined, { signal }) // what takes longer than 3 seconds
  return `All is well with ${subject}.`
}
