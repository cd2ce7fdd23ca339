import { realClient } from '../support/require-runtime-clients.ts'
import { describeStreaming } from '../support/streaming-suite.ts'

for (const companion of ['gate', 'internal', 'layer'] as const) {
  describeStreaming({ client: realClient('ric4'), companion })
  describeStreaming({ client: realClient('ric4'), companion, freeze: true })
}
for (const companion of ['internal', 'layer'] as const) {
  describeStreaming({ client: realClient('ric3'), companion })
  describeStreaming({ client: realClient('ric3'), companion, freeze: true })
}
