import { builtInClient as client } from '../support/runtime-clients.ts'
import { describeStreaming } from '../support/streaming-suite.ts'

for (const companion of ['gate', 'internal', 'layer'] as const) {
  describeStreaming({ client, companion, freeze: companion === 'internal' })
}
