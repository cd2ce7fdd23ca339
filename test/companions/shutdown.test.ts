import { builtInClient as client } from '../support/runtime-clients.ts'
import { describeShutdown } from '../support/shutdown-suite.ts'

for (const companion of ['gate', 'internal', 'layer'] as const) {
  describeShutdown({ client, companion, freeze: companion === 'gate', shutdowns: 5 })
}
