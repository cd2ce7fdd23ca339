/**
 * The middleware, and what belongs to it. It loads nothing but Node's built-ins.
 *
 * @packageDocumentation
 */
export { PostInvokeError, type PostInvokeErrorCode } from './errors.ts'
export type { LogFields, Logger } from './log.ts'
export type { MetricsOptions } from './metrics.ts'
export type {
  ChannelMessages,
  HoldMessage,
  HookMessage,
  ShutdownMessage,
  TaskMessage,
  UnstartedTaskMessage,
} from './middleware/channels.ts'
export { defer } from './middleware/defer.ts'
export { default } from './middleware/middy-middleware.ts'
export { onShutdown, resource } from './middleware/on-shutdown.ts'
export { type Context, type Options, postInvokeValidateOptions } from './middleware/post-invoke.ts'
export type { OnShutdownOptions, ShutdownContext, ShutdownHook } from './middleware/shutdown.ts'
export type { Defer, DeferOptions, Task, TaskContext } from './middleware/task.ts'
