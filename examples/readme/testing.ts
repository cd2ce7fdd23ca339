import assert from 'node:assert/strict'
import { mock, test } from 'node:test'
import type { APIGatewayProxyEventV2 } from 'aws-lambda'
import type { Context } from 'middy-post-invoke'
import { handler } from './first.ts'
import { analytics } from './shop.ts'

test('tracks the order after the answer', async () => {
  const tracked = Promise.withResolvers<string>()
  mock.method(analytics, 'track', async (event: string) => tracked.resolve(event))

  const { statusCode } = await handler({ body: 'tea' } as APIGatewayProxyEventV2, {} as Context)

  assert.equal(statusCode, 201)
  assert.equal(await tracked.promise, 'order')
})
