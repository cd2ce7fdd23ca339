// The metrics of holds: lines that CloudWatch reads. What is valid, Powertools' Metrics tells, which writes the same format,
// and the rules of its specification:
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html

import { Metrics, MetricUnit } from '@aws-lambda-powertools/metrics'
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import middy from '@middy/core'
import postInvoke, { type Context, type Options } from '../../src/index.ts'
import { holdMetrics } from '../../src/metrics.ts'
import { lambdaContext, until } from './helpers.ts'

let written: string[]

beforeEach(() => {
  written = []
  jest.spyOn(process.stdout, 'write').mockImplementation(chunk => {
    written.push(String(chunk))
    return true
  })
  jest.spyOn(console, 'error').mockImplementation(() => {})
})

afterEach(() => {
  jest.restoreAllMocks()
  delete process.env.AWS_LAMBDA_FUNCTION_NAME
})

/** The one line written, which ends as a line does. */
const line = () => {
  expect(written).toHaveLength(1)
  expect(written[0]).toMatch(/^\{.*\}\n$/)
  return JSON.parse(written[0] as string)
}

const hold = {
  awsRequestId: 'r1',
  outcome: 'success',
  tasks: 3,
  failed: 1,
  carried: 2,
  milliseconds: 12.3456789,
} as const

describe('the line of a hold', () => {
  it('is what Powertools writes of the same metrics', () => {
    holdMetrics({ namespace: 'shop', dimensions: { service: 'orders', stage: 'test' } })(hold)
    const powertools = new Metrics({ namespace: 'shop', serviceName: 'orders', defaultDimensions: { stage: 'test' } })
    powertools.addMetric('HoldDuration', MetricUnit.Milliseconds, 12.346)
    powertools.addMetric('TasksRun', MetricUnit.Count, 3)
    powertools.addMetric('TasksFailed', MetricUnit.Count, 1)
    powertools.addMetric('TasksCarried', MetricUnit.Count, 2)
    powertools.addMetadata('requestId', 'r1')
    const theirs = powertools.serializeMetrics()
    expect(line()).toEqual({ ...theirs, _aws: { ...theirs._aws, Timestamp: expect.any(Number) } })
  })

  it.each([
    ['the defaults', {}],
    ['all that can be', { namespace: 'shop', dimensions: { service: 'orders', stage: 'test' } }],
  ])('keeps to the specification, with %s', (_, options) => {
    holdMetrics(options)(hold)
    const { _aws, ...members } = line()
    expect(Number.isSafeInteger(_aws.Timestamp)).toBe(true)
    expect(Math.abs(Date.now() - _aws.Timestamp)).toBeLessThan(24 * 3_600_000)
    for (const { Namespace, Dimensions, Metrics: definitions } of _aws.CloudWatchMetrics) {
      expect(Namespace).toMatch(/^[^:].{0,254}$/)
      expect(Dimensions).toHaveLength(1)
      for (const name of Dimensions[0]) expect(members[name]).toEqual(expect.any(String))
      expect(definitions).toHaveLength(4)
      for (const { Name, Unit } of definitions) {
        expect(['Milliseconds', 'Count']).toContain(Unit)
        expect(members[Name]).toEqual(expect.any(Number))
      }
    }
  })

  it('has the name of the function as its dimension', () => {
    process.env.AWS_LAMBDA_FUNCTION_NAME = 'my-function'
    holdMetrics({})(hold)
    const { _aws, FunctionName } = line()
    expect(FunctionName).toBe('my-function')
    expect(_aws.CloudWatchMetrics[0]).toMatchObject({
      Namespace: 'middy-post-invoke',
      Dimensions: [['FunctionName']],
    })
  })
})

describe('the middleware', () => {
  const run = async (options: Options, defer: (context: Context) => void) => {
    let settled = false
    const handler = middy()
      .use(postInvoke(options))
      .handler(async (_event: unknown, context: Context) => {
        defer(context)
        context.defer(() => void setTimeout(() => setImmediate(() => setImmediate(() => (settled = true)))), {
          name: 'last',
        })
      })
    await handler({}, lambdaContext('r7'))
    await until(() => settled)
  }

  it('writes one line for a request with tasks', async () => {
    await run({ order: 'fifo', metrics: true }, context => {
      context.defer(() => {})
      context.defer(() => Promise.reject(new Error('failed')))
      context.defer(() => {}, { on: 'error' })
    })
    await until(() => written.length > 0)
    expect(line()).toMatchObject({
      HoldDuration: expect.any(Number),
      TasksRun: 3,
      TasksFailed: 1,
      TasksCarried: 0,
      requestId: 'r7',
    })
  })

  it.each([{}, { metrics: false }, { metrics: undefined }])('writes none with %j', async options => {
    await run(options, () => {})
    expect(written).toEqual([])
  })

  it('writes none for a request without tasks', async () => {
    const handler = middy()
      .use(postInvoke({ metrics: { namespace: 'shop' } }))
      .handler(async () => {})
    await handler({}, lambdaContext())
    for (let turn = 0; turn < 10; turn++) await new Promise(resolve => setImmediate(resolve))
    expect(written).toEqual([])
  })
})
