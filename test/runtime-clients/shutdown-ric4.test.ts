import { realClient, shutdowns } from '../support/require-runtime-clients.ts'
import { describeShutdown } from '../support/shutdown-suite.ts'

for (const companion of ['gate', 'internal', 'layer'] as const) {
  describeShutdown({ client: realClient('ric4'), companion, shutdowns })
}
