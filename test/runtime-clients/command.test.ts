import { describeCommand } from '../support/command-suite.ts'
import { realClient } from '../support/require-runtime-clients.ts'

for (const kind of ['ric3', 'ric4'] as const) describeCommand(realClient(kind))
