import middy from '@middy/core'
import postInvoke from 'middy-post-invoke'
import { act, early, options } from './work.mjs'

// Middy would answer itself 5 ms before the deadline: here a handler that hangs is to run into the function's timeout.
export const handler = middy({ timeoutEarlyInMillis: 0 })
  .use([early('outer'), postInvoke(options), early('inner')])
  .handler(async (event, context) => {
    await act(event, context)
    return { n: event.n }
  })
