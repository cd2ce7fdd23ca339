// The options of the middleware, and its types by name. Compiled, never run.
import { Logger as PowertoolsLogger } from '@aws-lambda-powertools/logger'
import type middy from '@middy/core'
import type { Context as LambdaContext } from 'aws-lambda'
import postInvoke, { type Context, type LogFields, type Options, postInvokeValidateOptions } from '../../src/index.ts'
import { writeHoldMetrics } from '../../src/metrics.ts'
import { check, type Same } from './expect.ts'

postInvoke()
postInvoke({})
postInvoke({
  order: 'fifo',
  concurrency: 4,
  taskTimeout: 5_000,
  deadlineMargin: 500,
  onTaskError: (error, { name, awsRequestId }) => {
    check<Same<typeof error, unknown>>()
    check<Same<typeof name, string>>()
    check<Same<typeof awsRequestId, string>>()
  },
  withoutCompanion: 'detach',
  waitUntil: false,
})
postInvoke({ onTaskError: async () => {} })
// With exactOptionalPropertyTypes, too, an explicit undefined is allowed.
postInvoke({
  order: undefined,
  concurrency: undefined,
  taskTimeout: undefined,
  deadlineMargin: undefined,
  onTaskError: undefined,
  withoutCompanion: undefined,
})

// @ts-expect-error
postInvoke({ order: 'random' })
// @ts-expect-error
postInvoke({ concurrency: '4' })
// @ts-expect-error
postInvoke({ taskTimeout: true })
// @ts-expect-error
postInvoke({ deadlineMargin: null })
// @ts-expect-error
postInvoke({ onTaskError: 'log' })
// @ts-expect-error
postInvoke({ onTaskError: (error: Error) => error.message }) // anything can be thrown
// @ts-expect-error
postInvoke({ waitUntil: 'no' })
// @ts-expect-error
postInvoke({ withoutCompanion: 'ignore' })
// @ts-expect-error a typo
postInvoke({ concurency: 4 })
// @ts-expect-error
postInvoke(null)
// @ts-expect-error
postInvoke('fifo')

postInvokeValidateOptions()
postInvokeValidateOptions({ concurrency: 4 })
// @ts-expect-error
postInvokeValidateOptions({ concurrency: '4' })
check<Same<ReturnType<typeof postInvokeValidateOptions>, void>>()

export const options: Options = { order: 'lifo' }
check<Same<Options['order'], 'lifo' | 'fifo' | undefined>>()
// Middy's own validators take a type, not an interface: it has to have an index signature.
export const indexed: Record<string, unknown> = options

check<Same<Context, LambdaContext & { defer: Context['defer'] }>>()
export const usableAsLambdas = (context: Context): LambdaContext => context
// @ts-expect-error the other way round a defer is missing
export const notTheOtherWay = (context: LambdaContext): Context => context

check<Same<ReturnType<typeof postInvoke>, middy.MiddlewareObj<unknown, any, Error, Context>>>()

// --- metrics

// @ts-expect-error an entry of its own
postInvoke({ metrics: true })
writeHoldMetrics()
writeHoldMetrics({ namespace: 'shop', dimensions: { service: 'orders' } })
writeHoldMetrics({ namespace: undefined, dimensions: undefined })
check<Same<ReturnType<typeof writeHoldMetrics>, () => void>>()
// @ts-expect-error a namespace stands in an object
writeHoldMetrics('shop')
// @ts-expect-error values of dimensions are texts
writeHoldMetrics({ dimensions: { stage: 1 } })

// --- loggers

postInvoke({ logger: new PowertoolsLogger() })
postInvoke({ logger: console })
postInvoke({
  logger: {
    debug() {},
    warn() {},
    error(_message, { task, requestId, error }) {
      check<Same<typeof task, string | undefined>>()
      check<Same<typeof requestId, string | undefined>>()
      check<Same<typeof error, unknown>>()
    },
  },
})
// @ts-expect-error a method is missing
postInvoke({ logger: { warn() {}, error() {} } })
// @ts-expect-error a logger that wants its fields first
postInvoke({ logger: { debug() {}, warn() {}, error(_fields: LogFields, _message: string) {} } })
