import { describeHandOff } from '../support/hand-off-suite.ts'
import { builtInClient } from '../support/runtime-clients.ts'

for (const companion of ['layer', 'internal'] as const) describeHandOff({ client: builtInClient, companion })
