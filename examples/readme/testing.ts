import assert from 'node:assert/strict'
import { afterEach, mock, test } from 'node:test'
import type { APIGatewayProxyEventV2 } from 'aws-lambda'
import { invoke, reset } from 'middy-post-invoke/testing'
import { handler } from './first.ts'
import { analytics } from './shop.ts'

afterEach(reset)

test('tracks the order', async () => {
  const track = mock.method(analytics, 'track')

  const { answer, tasks } = await invoke(handler, { body: 'tea' } as APIGatewayProxyEventV2)

  assert.equal(answer.statusCode, 201)
  assert.deepEqual(
    tasks.map(({ status }) => status),
    ['completed'],
  )
  assert.equal(track.mock.callCount(), 1)
})
