import { describeDeferredTasks } from '../support/deferred-tasks-suite.ts'
import { burns, realClient } from '../support/require-runtime-clients.ts'

const client = realClient('ric4')

for (const companion of ['gate', 'internal', 'layer'] as const) {
  describeDeferredTasks({ client, companion, burns })
  describeDeferredTasks({ client, companion, burns: Math.ceil(burns / 4), freeze: true })
}
