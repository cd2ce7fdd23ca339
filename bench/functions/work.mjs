// The work of every function here: it waits, as work that calls a service does, and keeps the time at which it ended.
import { setTimeout as sleep } from 'node:timers/promises'

let endedAt = 0

export const work = async milliseconds => {
  await sleep(milliseconds)
  endedAt = Number(process.hrtime.bigint()) / 1e6 // the monotonic clock, which all processes of a machine share
}

/** Carries the end of the last work, which comes after its own response. */
export const answer = () => ({ statusCode: 200, body: JSON.stringify({ endedAt }) })
