import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import middy from '@middy/core'
import { executionModeStreamifyResponse } from '@middy/core/StreamifyResponse'
import postInvoke from 'middy-post-invoke'
import { act, deferInBody, options } from './work.mjs'

async function* chunks(event, context) {
  for (let chunk = 0; chunk < event.chunks; chunk++) {
    yield String(chunk % 10).repeat(event.chunkLength)
    if (chunk === 0) deferInBody(event, context)
    if (event.chunkWait) await sleep(event.chunkWait)
  }
  if (event.bodyThrows) throw new Error('thrown by the body')
  yield `end of ${event.n}`
}

export const handler = middy({ executionMode: executionModeStreamifyResponse, timeoutEarlyInMillis: 0 })
  .use(postInvoke(options))
  .handler(async (event, context) => {
    await act(event, context)
    return { statusCode: 200, headers: { 'content-type': 'text/plain' }, body: Readable.from(chunks(event, context)) }
  })
