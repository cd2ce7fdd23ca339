import { describeDeferredTasks } from '../support/deferred-tasks-suite.ts'
import { builtInClient as client } from '../support/runtime-clients.ts'

for (const companion of ['gate', 'internal', 'layer'] as const) {
  describeDeferredTasks({ client, companion, freeze: companion === 'layer', burns: 10 })
}
