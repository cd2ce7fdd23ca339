// The floor for a synchronous registration by bash: how long a bash takes that does nothing, seen from Node.js.
import { spawnSync } from 'node:child_process'

const start = performance.now()
spawnSync('/bin/bash', ['--norc', '-p', '-c', ':'], { env: {}, stdio: ['ignore', 'pipe', 'pipe'] })
console.log(performance.now() - start)
