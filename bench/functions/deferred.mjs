import middy from '@middy/core'
import postInvoke from 'middy-post-invoke'
import { answer, work } from './work.mjs'

export const handler = middy()
  .use(postInvoke())
  .handler(async (event, context) => {
    if (event.work) context.defer(() => work(event.work))
    return answer()
  })
