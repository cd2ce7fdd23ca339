import { testManyInvocations } from '../support/many-suite.ts'
import { builtInClient } from '../support/runtime-clients.ts'

for (const companion of ['gate', 'internal', 'layer'] as const) testManyInvocations(builtInClient, companion, 1_000)
