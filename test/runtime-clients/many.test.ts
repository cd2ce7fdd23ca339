import { testManyInvocations } from '../support/many-suite.ts'
import { realClient } from '../support/require-runtime-clients.ts'

const COUNT = 4_000

for (const companion of ['gate', 'internal', 'layer'] as const)
  testManyInvocations(realClient('ric4'), companion, COUNT)
for (const companion of ['internal', 'layer'] as const) testManyInvocations(realClient('ric3'), companion, COUNT)
