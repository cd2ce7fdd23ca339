/**
 * What holding has cost, as metrics in CloudWatch.
 *
 * @packageDocumentation
 */
// For each hold one line of CloudWatch's embedded metric format.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
import { builtIn } from './built-in.ts'
import type { HoldMessage } from './middleware/channels.ts'
import { checkOptions, invalidOption, type OptionRule } from './middleware/option-rules.ts'

/** The metrics' place in CloudWatch. All optional. */
export type MetricsOptions = {
  /** Their namespace, at most 255 characters. Default `middy-post-invoke`. */
  namespace?: string | undefined
  /** Their dimensions: up to 30 names with their values. Default: `FunctionName`, with the function's name. */
  dimensions?: Readonly<Record<string, string>> | undefined
}

/**
 * Writes a line for each invocation that was held from now on: `HoldDuration`, `TasksRun`, `TasksFailed` and `TasksCarried`.
 * Call it once, at module level.
 *
 * @param options - The metrics' place in CloudWatch.
 * @returns a function that ends it.
 * @throws TypeError (`ERR_INVALID_OPTION`) for a wrong option.
 *
 * @example
 * ```ts
 * import middy from '@middy/core'
 * import postInvoke from 'middy-post-invoke'
 * import { writeHoldMetrics } from 'middy-post-invoke/metrics'
 *
 * writeHoldMetrics({ namespace: 'shop' })
 *
 * export const handler = middy().use(postInvoke())
 * ```
 */
export const writeHoldMetrics = (options: MetricsOptions = {}): (() => void) => {
  const { namespace = 'middy-post-invoke', dimensions = defaultDimensions() } = checkOptions<MetricsOptions>(
    'writeHoldMetrics()',
    rules,
    options,
    invalidOption,
  )
  const directive = {
    Namespace: namespace,
    Dimensions: [Object.keys(dimensions)],
    Metrics: [
      { Name: 'HoldDuration', Unit: 'Milliseconds' },
      { Name: 'TasksRun', Unit: 'Count' },
      { Name: 'TasksFailed', Unit: 'Count' },
      { Name: 'TasksCarried', Unit: 'Count' },
    ],
  }
  const write = (message: unknown) => {
    const { awsRequestId, milliseconds = 0, tasks, failed, carried } = message as HoldMessage
    const line = {
      ...dimensions,
      _aws: { Timestamp: Date.now(), CloudWatchMetrics: [directive] },
      HoldDuration: Math.round(milliseconds * 1_000) / 1_000,
      TasksRun: tasks,
      TasksFailed: failed,
      TasksCarried: carried,
      requestId: awsRequestId,
    }
    // Not by the console: the runtime client would write something before it, and it would be no metric.
    process.stdout.write(`${JSON.stringify(line)}\n`)
  }
  const { subscribe, unsubscribe } = builtIn('node:diagnostics_channel')
  subscribe(HOLD_ENDS, write)
  return () => void unsubscribe(HOLD_ENDS, write)
}

const HOLD_ENDS = 'tracing:middy-post-invoke:hold:asyncStart'

const defaultDimensions = () => ({ FunctionName: process.env.AWS_LAMBDA_FUNCTION_NAME ?? 'unknown' })

/** https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDatum.html */
const isText = (value: unknown, longest: number): boolean =>
  typeof value === 'string' && value.length <= longest && /^[^:]/.test(value)

/** What stands in each line by these names is not theirs. */
const OWN_NAMES = ['_aws', 'HoldDuration', 'TasksRun', 'TasksFailed', 'TasksCarried', 'requestId']

const areDimensions = (value: unknown): boolean => {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return false
  const entries = Object.entries(value)
  return (
    entries.length > 0 &&
    entries.length <= 30 &&
    entries.every(([name, text]) => isText(name, 250) && isText(text, 1_024) && !OWN_NAMES.includes(name))
  )
}

const rules = (): Readonly<Record<keyof MetricsOptions, OptionRule>> => ({
  namespace: ['text of 1 to 255 characters that does not begin with a colon', value => isText(value, 255)],
  dimensions: ['1 to 30 names with their values, as CloudWatch takes them', areDimensions],
})
