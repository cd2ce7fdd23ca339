// What can be deferred, and how. Compiled, never run.
import {
  type Context,
  type Defer,
  type DeferOptions,
  defer,
  PostInvokeError,
  type PostInvokeErrorCode,
  type Task,
  type TaskContext,
  waitUntil,
} from '../../src/index.ts'
import { check, type Same } from './expect.ts'

check<Same<typeof defer, Defer>>()
check<Same<Context['defer'], Defer>>()

// --- tasks

defer(() => {})
defer(async () => {})
defer(() => 42)
defer(async ({ signal }) => fetch('http://localhost', { signal }))
defer(Promise.resolve(42))
declare const thenable: PromiseLike<unknown>
defer(thenable)
defer(function named() {})

defer(context => {
  check<Same<typeof context, TaskContext>>()
  check<Same<typeof context.signal, AbortSignal>>()
  check<Same<typeof context.name, string>>()
  check<Same<typeof context.awsRequestId, string>>()
  check<Same<typeof context.outcome, 'success' | 'error'>>()
  check<Same<typeof context.error, unknown>>()
  check<Same<ReturnType<typeof context.getRemainingTimeInMillis>, number>>()
})

defer(context => {
  // @ts-expect-error a task is told, it does not tell
  context.outcome = 'success'
})

// @ts-expect-error what is no task
defer(42)
// @ts-expect-error what is no task
defer('a text')
// @ts-expect-error what is no task
defer({ task: () => {} })
// @ts-expect-error what is no task
defer(null)
// @ts-expect-error what is no task
defer(undefined)
// @ts-expect-error what is no task
defer([() => {}])
// @ts-expect-error nothing at all
defer()
// @ts-expect-error a task that asks for what it is not given
defer((context: TaskContext & { event: unknown }) => context.event)
// @ts-expect-error a task has one parameter
defer((_context: TaskContext, _more: string) => {})

// --- options

defer(() => {}, {})
defer(() => {}, { name: 'mail', on: 'success', timeout: 1_000 })
defer(() => {}, { name: undefined, on: undefined, timeout: undefined })
defer(() => {}, { on: 'error' })
defer(() => {}, { on: 'always' })

// @ts-expect-error an outcome that is none
defer(() => {}, { on: 'failure' })
// @ts-expect-error a text for a number
defer(() => {}, { timeout: '1s' })
// @ts-expect-error a number for a text
defer(() => {}, { name: 1 })
// @ts-expect-error an option that is none
defer(() => {}, { retries: 3 })
// @ts-expect-error options are an object
defer(() => {}, 'mail')
// @ts-expect-error null is not an omission
defer(() => {}, null)

// A promise is under way whatever the outcome.
declare const context: Context
defer(Promise.resolve(), { on: 'always' })
defer(Promise.resolve(), { name: 'mail', timeout: 1_000, on: undefined })
// @ts-expect-error it cannot be held back
context.defer(Promise.resolve(), { on: 'success' })
// @ts-expect-error it cannot be held back
defer(thenable, { on: 'error' })

// --- what libraries are given

waitUntil(Promise.resolve())
check<Same<typeof waitUntil, (promise: Promise<unknown>) => void>>()
// @ts-expect-error no options
waitUntil(Promise.resolve(), { name: 'mail' })

// --- what it returns, and the types by name

check<Same<ReturnType<Defer>, void>>()
export const task: Task = async ({ signal }) => signal.aborted
export const options: DeferOptions = { on: 'success' }
// @ts-expect-error
export const noTask: Task = 42

// --- errors

export const isOver = (error: unknown): boolean => {
  if (!(error instanceof PostInvokeError)) return false
  check<Same<typeof error.name, 'PostInvokeError'>>()
  check<Same<typeof error.cause.package, 'middy-post-invoke'>>()
  const { code } = error
  switch (code) {
    case 'ERR_TASK_DEADLINE':
    case 'ERR_TASK_TIMEOUT':
      return true
    case 'ERR_SHUTDOWN':
    case 'ERR_SHUTDOWN_TIMEOUT':
    case 'ERR_INVALID_HANDLER':
    case 'ERR_INVALID_HOOK':
    case 'ERR_INVALID_HAND_OFF':
    case 'ERR_INVALID_TASK':
    case 'ERR_INVALID_VARIABLE':
    case 'ERR_NO_COMPANION':
    case 'ERR_NO_INVOCATION':
    case 'ERR_NO_RUNNER':
    case 'ERR_NO_SQS_CLIENT':
    case 'ERR_SPOOL':
      return false
    // @ts-expect-error no such code
    case 'ERR_OTHER':
      return false
    default: {
      check<Same<typeof code, never>>() // all codes are named above
      return false
    }
  }
}
// @ts-expect-error no such code
export const noCode: PostInvokeErrorCode = 'ERR_OTHER'
