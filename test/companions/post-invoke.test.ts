import { expect, it } from '@jest/globals'
import { describeDeferredTasks } from '../support/deferred-tasks-suite.ts'
import { layer, startRun } from '../support/run.ts'
import { builtInClient as client } from '../support/runtime-clients.ts'

for (const companion of ['gate', 'internal', 'layer'] as const) {
  describeDeferredTasks({ client, companion, freeze: companion === 'layer', burns: 10 })
}

it.each([
  ['layer', [layer]],
  ['gate', []],
])('chooses the companion by what is attached: %s', async (companion, layers) => {
  const run = await startRun({
    client,
    layers,
    environment: { POST_INVOKE_LOG_LEVEL: 'DEBUG' },
  })
  await using _sandbox = run.sandbox
  expect(run.logged('companion:')).toEqual([`middy-post-invoke: companion: ${companion}`])
})
