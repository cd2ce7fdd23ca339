import type { DurableContext } from '@aws/durable-execution-sdk-js'
import middy from '@middy/core'
import { executionModeDurableContext } from '@middy/core/DurableContext'
import type { Context } from 'aws-lambda'
import postInvoke from 'middy-post-invoke'

export const handler = middy<unknown, any, Error, Context & DurableContext>({
  executionMode: executionModeDurableContext,
  timeoutEarlyInMillis: 0, // a suspension does not clear Middy's timer, which keeps a test runner alive
})
  .use(postInvoke())
  .handler(async (_event, context) => {
    const order = await context.step('place', async () => ({ id: 'o1' }))
    context.defer(() => {}, { name: 'audit' })
    await context.wait({ days: 1 })
    context.defer(() => {}, { name: 'reminder' })
    return order
  })
