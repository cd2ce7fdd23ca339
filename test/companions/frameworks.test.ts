import { describeFrameworks } from '../support/frameworks-suite.ts'
import { builtInClient as client } from '../support/runtime-clients.ts'

for (const companion of ['gate', 'internal', 'layer'] as const) describeFrameworks({ client, companion })
