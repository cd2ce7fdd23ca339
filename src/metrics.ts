// What holding has cost, as metrics: for each hold one line of CloudWatch's embedded metric format. A module of its own,
// loaded by functions that ask for it.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
import type { HoldMessage } from './middleware/channels.ts'

/** The metrics' place in CloudWatch. All optional. */
export type MetricsOptions = {
  /** Their namespace, at most 255 characters. Default `middy-post-invoke`. */
  namespace?: string | undefined
  /** Their dimensions: up to 30 names with their values. Default: `FunctionName`, with the function's name. */
  dimensions?: Readonly<Record<string, string>> | undefined
}

/** @returns what writes the line of a hold that has ended. */
export const holdMetrics = ({
  namespace = 'middy-post-invoke',
  dimensions = { FunctionName: process.env.AWS_LAMBDA_FUNCTION_NAME ?? 'unknown' },
}: MetricsOptions): ((hold: HoldMessage) => void) => {
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
  return ({ awsRequestId, milliseconds = 0, tasks, failed, carried }) => {
    const line = {
      _aws: { Timestamp: Date.now(), CloudWatchMetrics: [directive] },
      ...dimensions,
      HoldDuration: Math.round(milliseconds * 1_000) / 1_000,
      TasksRun: tasks,
      TasksFailed: failed,
      TasksCarried: carried,
      requestId: awsRequestId,
    }
    // Not by the console: the runtime client would write something before it, and it would be no metric.
    process.stdout.write(`${JSON.stringify(line)}\n`)
  }
}
