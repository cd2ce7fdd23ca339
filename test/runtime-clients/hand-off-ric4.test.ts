import { describeHandOff } from '../support/hand-off-suite.ts'
import { realClient } from '../support/require-runtime-clients.ts'

for (const companion of ['gate', 'internal', 'layer'] as const) {
  describeHandOff({ client: realClient('ric4'), companion })
}
