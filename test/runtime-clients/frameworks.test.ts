import { describeFrameworks } from '../support/frameworks-suite.ts'
import { realClient } from '../support/require-runtime-clients.ts'

for (const companion of ['gate', 'layer'] as const) describeFrameworks({ client: realClient('ric4'), companion })
for (const companion of ['internal', 'layer'] as const) describeFrameworks({ client: realClient('ric3'), companion })
