import type { Writable } from 'node:stream'
import middy from '@middy/core'
import { executionModeStreamifyResponse } from '@middy/core/StreamifyResponse'
import type { APIGatewayProxyStructuredResultV2 } from 'aws-lambda'
import postInvoke from 'middy-post-invoke'
import { audit } from '../readme/shop.ts'

type Streamify = (handler: (event: unknown, stream: Writable) => Promise<void>) => unknown
declare const awslambda: { streamifyResponse: Streamify }

// #region before
export const before = () =>
  awslambda.streamifyResponse(async (_event, stream) => {
    stream.write('accepted')
    stream.end()
    await audit.write('accepted') // the caller has its answer already
  })
// #endregion

// #region after
export const after = middy<unknown, APIGatewayProxyStructuredResultV2>()
  .use(postInvoke())
  .handler(async (_event, context) => {
    context.defer(() => audit.write('accepted'), { name: 'audit' })
    return { statusCode: 202, body: 'accepted' }
  })
// #endregion

// #region streamed
export const streamed = middy({ executionMode: executionModeStreamifyResponse })
  .use(postInvoke())
  .handler(async (_event, context) => {
    context.defer(() => audit.write('accepted'), { name: 'audit' })
    return { statusCode: 202, headers: { 'content-type': 'text/plain' }, body: 'accepted' }
  })
// #endregion
