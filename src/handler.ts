/**
 * Handlers without Middy: `withPostInvoke()`, and what goes with it. Its types need no `@middy/core`.
 *
 * @packageDocumentation
 */
// All of it is exported by index.ts, too: the build makes this entry a re-export of that one.
export { PostInvokeError, type PostInvokeErrorCode } from './errors.ts'
export type { LogFields, Logger } from './log.ts'
export { defer, waitUntil } from './middleware/defer.ts'
export type { Defer, DeferOptions, Task, TaskContext } from './middleware/defer-input.ts'
export { type ExecutionContext, withExecutionContext } from './middleware/execution-context.ts'
export {
  type OnShutdownOptions,
  onShutdown,
  resource,
  type ShutdownContext,
  type ShutdownHook,
} from './middleware/on-shutdown.ts'
export type { Context } from './middleware/opener.ts'
export type { Options } from './middleware/options.ts'
export { withPostInvoke } from './middleware/with-post-invoke.ts'
