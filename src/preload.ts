/**
 * For functions on Lambda Managed Instances: brings SIGTERM to the worker threads in which handlers run there, so that
 * `onShutdown()` hooks and resources work. Set `NODE_OPTIONS=--import middy-post-invoke/preload` on the function. It does
 * nothing elsewhere, and exports nothing.
 *
 * @packageDocumentation
 */
import { builtIn } from './built-in.ts'
import { createLog } from './log.ts'
import { registerForSigterm } from './middleware/companion-pipe.ts'
import { relaySigterm } from './middleware/signal-relay.ts'
import { isManagedInstances } from './variables.ts'

const { AWS_LAMBDA_RUNTIME_API } = process.env
const { isMainThread } = builtIn('node:worker_threads')

/** Less than the 500 ms that Lambda gives, for the last log lines. */
const BUDGET_MS = 480

if (isMainThread && AWS_LAMBDA_RUNTIME_API !== undefined && isManagedInstances()) {
  const log = createLog()
  const reason = registerForSigterm(AWS_LAMBDA_RUNTIME_API)
  if (reason) log.warnOnce('WARN_NO_SIGTERM', `no SIGTERM will come (${reason})`)
  relaySigterm(BUDGET_MS)
}
