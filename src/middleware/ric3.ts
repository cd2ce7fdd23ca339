// The runtime client of nodejs22.x. What it does when the event loop is empty stands in a global. It is set as an invocation
// begins, and reset in the same turn in which the response is posted, after all that may be wrapped around the handler.
// https://github.com/aws/aws-lambda-nodejs-runtime-interface-client
import type { ResponseStreams } from './response-streams.ts'
import { type OnEnd, type Run, type RuntimeClient, watchProperty } from './runtime-client.ts'

const BEFORE_EXIT = Symbol.for('aws.lambda.beforeExit')
const REQUEST_ID = Symbol.for('aws.lambda.runtime.requestId')
type Ric3Global = { [BEFORE_EXIT]?: () => void; [REQUEST_ID]?: string }

export const isRic3 = (): boolean => BEFORE_EXIT in globalThis

export function observeRic3(streams: Pick<ResponseStreams, 'has'>, onEnd: OnEnd): RuntimeClient {
  const global = globalThis as Ric3Global
  const firstUsedIn = global[REQUEST_ID]
  // In the middle of an invocation it is too late to see what the client has there outside of one.
  if (firstUsedIn !== undefined) return { firstUsedIn }

  const idle = global[BEFORE_EXIT] // outside an invocation, as now at init, it does nothing
  let run: Run | undefined

  function end(isPosted?: boolean) {
    // Set again in the same turn: the client now waits for an empty event loop. A callback's response is posted after
    // that; a stream has left before, and the client only asks for the next invocation later.
    if (!run || !(isPosted || global[BEFORE_EXIT] === idle || streams.has(run.id))) return
    const ended = run
    run = undefined
    onEnd(ended)
  }
  function onChange(next: typeof idle) {
    const id = global[REQUEST_ID] as string
    // The post follows in this same turn of the event loop.
    if (next === idle) setImmediate(end)
    else if (run?.id !== id) run = { id }
  }
  watchProperty(global, BEFORE_EXIT, onChange)
  process.on('beforeExit', () => {
    // A callback's response is posted in the next turn; one more, and it has left.
    if (run) setImmediate(() => setImmediate(end, true))
  })

  return {
    runOf: () => run,
    isBusy: () => run !== undefined,
  }
}
