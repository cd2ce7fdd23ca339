import { setTimeout as sleep } from 'node:timers/promises'
import middy from '@middy/core'
import postInvoke from 'middy-post-invoke'

export const handler = middy()
  .use(postInvoke()) // first, so that it is the outermost
  .handler(async (_event, context) => {
    context.defer(() => sleep(150), { name: 'mail' }) // once the response has left
    context.defer(() => sleep(90), { name: 'audit' })
    return { statusCode: 201 }
  })
