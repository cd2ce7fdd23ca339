import { realClient, shutdowns } from '../support/require-runtime-clients.ts'
import { describeShutdown } from '../support/shutdown-suite.ts'

for (const companion of ['internal', 'layer'] as const) {
  describeShutdown({ client: realClient('ric3'), companion, shutdowns })
}
