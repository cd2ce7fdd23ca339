import middy from '@middy/core'
import postInvoke from 'middy-post-invoke'
import { metrics } from '../readme/shop.ts'

// #region before
export const before = middy().handler(async () => {
  metrics.count('called') // not awaited: it may be frozen half-way, and a rejection ends the process
  return { statusCode: 204 }
})
// #endregion

// #region after
export const after = middy()
  .use(postInvoke())
  .handler(async (_event, context) => {
    context.defer(() => metrics.count('called'), { name: 'count' })
    return { statusCode: 204 }
  })
// #endregion
