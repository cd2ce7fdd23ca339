// GET /?rows=N at a function URL: a table that is streamed row by row as it is made. How many rows were sent is known, and
// reported, once the last of them has left.
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import middy from '@middy/core'
import { executionModeStreamifyResponse } from '@middy/core/StreamifyResponse'
import type { LambdaFunctionURLEvent } from 'aws-lambda'
import postInvoke from 'middy-post-invoke'

/** A wrong one fails init, not the first request. */
const analytics = new URL(process.env.ANALYTICS_URL ?? '')

export const handler = middy<LambdaFunctionURLEvent>({ executionMode: executionModeStreamifyResponse })
  .use(postInvoke()) // first, so that it is the outermost
  .handler(async (event, context) => {
    const sent = { rows: 0 }
    context.defer(({ signal }) => track(sent, signal), { name: 'analytics', timeout: 5_000 })
    return {
      statusCode: 200,
      headers: { 'content-type': 'text/csv' },
      body: Readable.from(table(Number(event.queryStringParameters?.rows ?? 10), sent)),
    }
  })

async function* table(rows: number, sent: { rows: number }) {
  yield 'row,square\n'
  for (let row = 1; row <= rows; row++) {
    await sleep(10) // a row takes its time
    sent.rows = row
    yield `${row},${row * row}\n`
  }
}

const track = async (sent: { rows: number }, signal: AbortSignal) => {
  const { ok, status } = await fetch(analytics, { method: 'POST', body: JSON.stringify(sent), signal })
  if (!ok) throw new Error(`The analytics service answered ${status}`)
}
