import middy from '@middy/core'
import postInvoke from 'middy-post-invoke'
import withHandOff from 'middy-post-invoke/hand-off'

export const handler = middy<unknown, unknown>()
  .use(postInvoke())
  .use(withHandOff<typeof import('./job.ts')>())
  .handler(async (_event, context) => {
    context.handOff('compress', { file: '/tmp/report.csv' })
    return { statusCode: 200 }
  })
