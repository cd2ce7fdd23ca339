// Loads modules one after the other and says what the last one cost. First argument: what was loaded before it is timed.
import { readFileSync } from 'node:fs'

const [before, timed, call] = process.argv.slice(2)
if (before) await import(before)
const start = performance.now()
const module = timed ? await import(timed) : undefined
const imported = performance.now()
if (call) module.default() // postInvoke()
const called = performance.now()
const kilobytes = [...readFileSync('/proc/self/smaps_rollup', 'utf8').matchAll(/^Private_\w+:\s+(\d+)/gm)]
const own = kilobytes.reduce((sum, [, count]) => sum + Number(count), 0) / 1024
console.log(JSON.stringify({ imported: imported - start, called: called - imported, own }))
