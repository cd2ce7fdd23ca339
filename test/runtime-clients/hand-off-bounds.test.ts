import { describeHandOffBounds } from '../support/hand-off-bounds-suite.ts'
import { realClient } from '../support/require-runtime-clients.ts'

const combinations = [
  ['ric3', 'internal'],
  ['ric3', 'layer'],
  ['ric4', 'gate'],
  ['ric4', 'internal'],
  ['ric4', 'layer'],
] as const

for (const [kind, companion] of combinations) describeHandOffBounds({ client: realClient(kind), companion })
