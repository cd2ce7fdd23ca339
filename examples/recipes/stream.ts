// A streamed answer: what the stream itself defers runs after its last byte too.
import { Readable } from 'node:stream'
import middy from '@middy/core'
import { executionModeStreamifyResponse } from '@middy/core/StreamifyResponse'
import postInvoke, { defer } from 'middy-post-invoke'
import { metrics } from '../readme/shop.ts'

async function* lines() {
  let count = 0
  for (const line of ['one', 'two', 'three']) {
    yield `${line}\n`
    count++
  }
  defer(() => metrics.count(`streamed ${count} lines`), { name: 'count' })
}

export const handler = middy({ executionMode: executionModeStreamifyResponse })
  .use(postInvoke())
  .handler(async () => ({
    statusCode: 200,
    headers: { 'content-type': 'text/plain' },
    body: Readable.from(lines()),
  }))
