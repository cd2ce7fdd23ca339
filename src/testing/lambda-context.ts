import { randomUUID } from 'node:crypto'
import type { Context as LambdaContext } from 'aws-lambda'

/** Lambda's context, for a function called `test`. */
export const createLambdaContext = (timeout: number, given: Partial<LambdaContext> = {}): LambdaContext => {
  const deadline = Date.now() + timeout
  const unsupported = () => {
    throw new Error('context.done(), fail() and succeed() are not there in tests: return or throw')
  }
  return Object.assign(
    {
      callbackWaitsForEmptyEventLoop: true,
      functionName: 'test',
      functionVersion: '$LATEST',
      invokedFunctionArn: 'arn:aws:lambda:us-east-1:123456789012:function:test',
      memoryLimitInMB: '128',
      awsRequestId: randomUUID(),
      logGroupName: '/aws/lambda/test',
      logStreamName: '2020/01/01/[$LATEST]0123456789abcdef0123456789abcdef',
      getRemainingTimeInMillis: () => deadline - Date.now(),
      done: unsupported,
      fail: unsupported,
      succeed: unsupported,
    },
    given,
  )
}
