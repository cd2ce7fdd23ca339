/**
 * Handlers without Middy: `withPostInvoke()`, and what goes with it.
 *
 * @packageDocumentation
 */

export { PostInvokeError, type PostInvokeErrorCode } from './errors.ts'
export type { LogFields, Logger } from './log.ts'
export type { MetricsOptions } from './metrics.ts'
export { defer } from './middleware/defer.ts'
export { type ExecutionContext, withExecutionContext } from './middleware/execution-context.ts'
export { onShutdown, resource } from './middleware/on-shutdown.ts'
export type { Context, Options } from './middleware/post-invoke.ts'
export type { OnShutdownOptions, ShutdownContext, ShutdownHook } from './middleware/shutdown.ts'
export type { Defer, DeferOptions, Task, TaskContext } from './middleware/task.ts'
export { withPostInvoke } from './middleware/with-post-invoke.ts'
