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

  let listener = global[BEFORE_EXIT]
  const idle = listener // outside an invocation, as now at init, it does nothing
  let run: Run | undefined

  function end() {
    // Set again in the same turn: the client now waits for an empty event loop. A callback's response is posted after
    // that; a stream has left before, and the client only asks for the next invocation later.
    if (!run || (listener !== idle && !streams.has(run.requestId))) return
    const ended = run
    run = undefined
    onEnd(ended)
  }
  function endAfterEmptyLoop() {
    listener = idle
    end()
  }
  const otherListener = watchProperty<(() => void) | undefined>(global, BEFORE_EXIT, () => listener, onChange)
  function onChange(next: (() => void) | undefined) {
    if (next === idle || !next) {
      listener = next
      setImmediate(end) // the post follows in this same turn of the event loop
      return
    }
    const requestId = global[REQUEST_ID] as string
    if (run?.requestId !== requestId) run = { requestId }
    listener = () => {
      const act = otherListener() ?? next
      act() // the event loop has run empty: a callback's response is posted in the next turn
      setImmediate(() => setImmediate(endAfterEmptyLoop))
    }
  }

  return {
    tellsEnds: true,
    runOf: requestId => (run?.requestId === requestId ? run : undefined),
    isBusy: () => run !== undefined,
  }
}
