import middy from '@middy/core'
import postInvoke, { onShutdown } from 'middy-post-invoke'

onShutdown(() => console.log("bye y'all!"))

export const handler = middy()
  .use(postInvoke())
  .handler(async (event, context) => {
    context.defer(() => console.log('runs last'))
    context.defer(() => console.log('runs first'))
    return event
  })
