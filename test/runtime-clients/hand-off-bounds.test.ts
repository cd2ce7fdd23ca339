import { describeHandOffBounds } from '../support/hand-off-bounds-suite.ts'
import { realClient } from '../support/require-runtime-clients.ts'

for (const companion of ['internal', 'layer'] as const) {
  describeHandOffBounds({ client: realClient('ric3'), companion })
}
for (const companion of ['gate', 'internal', 'layer'] as const) {
  describeHandOffBounds({ client: realClient('ric4'), companion })
}
