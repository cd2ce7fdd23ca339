import { Readable } from 'node:stream'
import middy from '@middy/core'
import { executionModeStreamifyResponse } from '@middy/core/StreamifyResponse'
import postInvoke from 'middy-post-invoke'
import { metrics } from './shop.ts'

export const handler = middy({ executionMode: executionModeStreamifyResponse })
  .use(postInvoke())
  .handler(async (_event, context) => {
    context.defer(() => metrics.count('streamed'))
    return {
      statusCode: 200,
      headers: { 'content-type': 'text/plain' },
      body: Readable.from(['one\n', 'two\n', 'three\n']),
    }
  })
