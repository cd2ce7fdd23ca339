// nodejs26.x, which is a preview: its Node.js, with the newest runtime client that there is.
import { execFileSync } from 'node:child_process'
import { describe, expect, it } from '@jest/globals'
import { describeDeferredTasks } from '../support/deferred-tasks-suite.ts'
import { onNode, realClient } from '../support/require-runtime-clients.ts'
import type { RuntimeClient } from '../support/runtime-clients.ts'
import { describeShutdown } from '../support/shutdown-suite.ts'
import { describeStreaming } from '../support/streaming-suite.ts'

const { POST_INVOKE_TEST_NODE26: node = 'POST_INVOKE_TEST_NODE26: see scripts/install-test-runtimes.sh' } = process.env

const ric4 = onNode(node, realClient('ric4'))
const client: RuntimeClient = {
  ...ric4,
  name: `${ric4.name} on Node.js 26`,
  options: handler => ({ ...ric4.options(handler), executionEnvironment: 'AWS_Lambda_nodejs26.x' }),
}

describe('nodejs26.x', () => {
  it('is that version', () => {
    expect(execFileSync(node, ['--version'], { encoding: 'utf8' })).toMatch(/^v26\./)
  })
})

for (const companion of ['gate', 'internal', 'layer'] as const) {
  describeDeferredTasks({ client, companion, burns: 10, freeze: true })
  describeStreaming({ client, companion })
  describeShutdown({ client, companion, shutdowns: 5 })
}
