import { type Context, withPostInvoke } from 'middy-post-invoke/handler'
import { metrics } from '../readme/shop.ts'

export const handler = awslambda.streamifyResponse(
  withPostInvoke(async (_event: unknown, responseStream: awslambda.HttpResponseStream, context: Context) => {
    context.defer(() => metrics.count('streamed')) // once Lambda has accepted the last byte
    responseStream.write('one\n')
    responseStream.end('two\n')
  }),
)
