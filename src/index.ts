export { PostInvokeError, type PostInvokeErrorCode } from './errors.ts'
export { defer } from './middleware/defer.ts'
export {
  type Context,
  default,
  type Options,
  postInvokeValidateOptions,
} from './middleware/post-invoke.ts'
export type { Defer, DeferOptions, Task, TaskContext } from './middleware/task.ts'
