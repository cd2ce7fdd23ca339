/**
 * The middleware, and what belongs to it. It loads nothing but Node's built-ins.
 *
 * @packageDocumentation
 */
export { PostInvokeError, type PostInvokeErrorCode } from './errors.ts'
export type { LogFields, Logger } from './log.ts'
export { asLambdaHandler } from './middleware/as-lambda-handler.ts'
export type {
  ChannelMessages,
  HoldMessage,
  HookMessage,
  ShutdownMessage,
  TaskMessage,
  UnstartedTaskMessage,
} from './middleware/channels.ts'
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
export { type Options, postInvokeValidateOptions } from './middleware/options.ts'
export { default } from './middleware/post-invoke.ts'
export { withPostInvoke } from './middleware/with-post-invoke.ts'
