import { setTimeout as sleep } from 'node:timers/promises'
import middy from '@middy/core'
import postInvoke from 'middy-post-invoke'

export const handler = middy()
  .use(postInvoke())
  .handler(async (_event, context) => {
    context.defer(() => sleep(150), { name: 'mail' })
    context.defer(() => sleep(90), { name: 'audit' })
    return { statusCode: 201 }
  })
