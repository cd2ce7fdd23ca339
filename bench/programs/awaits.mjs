// Prints the microseconds that an await takes in a process that has just begun, as a function's code is after a cold start.
// First argument: `tracked`, where an AsyncLocalStorage is to be in use.
import { AsyncLocalStorage } from 'node:async_hooks'

const AWAITS = 100

if (process.argv[2] === 'tracked') new AsyncLocalStorage().enterWith({})

const called = async number => {
  await null
  return number
}

let sum = 0
const start = performance.now()
for (let number = 0; number < AWAITS; number++) sum += await called(number)
console.log(sum && ((performance.now() - start) * 1_000) / AWAITS)
