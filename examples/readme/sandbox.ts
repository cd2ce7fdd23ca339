import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { createSandbox } from 'middy-post-invoke/sandbox'

const sandbox = await createSandbox({
  taskRoot: 'dist',
  handler: 'index.handler',
  layers: ['node_modules/middy-post-invoke/dist/layer'],
  freeze: true,
})
after(() => sandbox.shutdown())

test('answers before the tasks have run', async () => {
  const { answered, released } = sandbox.send({ body: 'tea' })

  const answer = await answered
  assert.equal(answer.body().statusCode, 201)

  const { status, releasedAt } = await released
  assert.equal(status, 'success')
  assert.ok(releasedAt > answer.at)
})
