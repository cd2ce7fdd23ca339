// The wrappers of OpenNext for Lambda, whose `waitUntil` lets the answer go first: revalidation, writes to the cache, and
// `after()` of Next come behind it.
import buffered from '@opennextjs/aws/overrides/wrappers/aws-lambda.js'
import streaming from '@opennextjs/aws/overrides/wrappers/aws-lambda-streaming.js'
import type { Wrapper } from '@opennextjs/aws/types/overrides.js'
import { waitUntil, withPostInvoke } from 'middy-post-invoke/handler'

const withWaitUntil = (base: Wrapper): Wrapper => ({
  ...base,
  name: `${base.name}-post-invoke`,
  wrapper: async (handler, converter) =>
    withPostInvoke(await base.wrapper((event, options) => handler(event, { ...options, waitUntil }), converter)),
})

export const lambda = withWaitUntil(buffered as Wrapper)
export const lambdaStreaming = withWaitUntil(streaming as Wrapper)
