import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { LocalDurableTestRunner } from '@aws/durable-execution-sdk-js-testing'
import { invoke } from 'middy-post-invoke/testing'
import { handler } from './durable.ts'

before(() => LocalDurableTestRunner.setupTestEnvironment({ skipTime: true }))
after(() => LocalDurableTestRunner.teardownTestEnvironment())

test('audits before the wait, and reminds after it', async () => {
  const invocations: string[][] = []
  const runner = new LocalDurableTestRunner({
    handlerFunction: async (event, context) => {
      const { answer, tasks } = await invoke(handler, event, { context })
      invocations.push(tasks.map(({ name }) => name))
      return answer
    },
  })
  const execution = await runner.run({ payload: {} })
  assert.deepEqual(execution.getResult(), { id: 'o1' })
  assert.deepEqual(invocations, [['audit'], ['reminder', 'audit']])
})
