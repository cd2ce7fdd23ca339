// The metrics of holds: lines that CloudWatch reads. What is valid, Powertools' Metrics tells, which writes the same format,
// and the rules of its specification:
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html

import { tracingChannel } from 'node:diagnostics_channel'
import { Metrics, MetricUnit } from '@aws-lambda-powertools/metrics'
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import middy from '@middy/core'
import postInvoke, { type Context } from '../../src/index.ts'
import { type MetricsOptions, writeHoldMetrics } from '../../src/metrics.ts'
import { lambdaContext, thrownBy, until } from './helpers.ts'

const stops: (() => void)[] = []
/** Until the test is over. */
const begin = (options?: MetricsOptions) => void stops.push(writeHoldMetrics(options))

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
  for (const stop of stops.splice(0)) stop()
  jest.restoreAllMocks()
  delete process.env.AWS_LAMBDA_FUNCTION_NAME
})

/** The one line written, which ends as a line does. */
const line = () => {
  expect(written).toHaveLength(1)
  expect(written[0]).toMatch(/^\{.*\}\n$/)
  return JSON.parse(written[0] as string)
}

/** As an invocation tells it that was held. */
const tell = () => tracingChannel<unknown, object>('middy-post-invoke:hold').asyncStart.publish(hold)

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
    begin({ namespace: 'shop', dimensions: { service: 'orders', stage: 'test' } })
    tell()
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
    begin(options)
    tell()
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
    begin({})
    tell()
    const { _aws, FunctionName } = line()
    expect(FunctionName).toBe('my-function')
    expect(_aws.CloudWatchMetrics[0]).toMatchObject({
      Namespace: 'middy-post-invoke',
      Dimensions: [['FunctionName']],
    })
  })
})

describe('with the middleware', () => {
  const run = async (defer: (context: Context) => void) => {
    let settled = false
    const handler = middy()
      .use(postInvoke({ order: 'fifo' }))
      .handler(async (_event: unknown, context: Context) => {
        defer(context)
        context.defer(() => void setTimeout(() => setImmediate(() => setImmediate(() => (settled = true)))), {
          name: 'last',
        })
      })
    await handler({}, lambdaContext('r7'))
    await until(() => settled)
  }

  it('a line is written for a request with tasks', async () => {
    begin()
    await run(context => {
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

  it('none is written where nothing has asked for it, or nothing does any longer', async () => {
    await run(() => {})
    writeHoldMetrics()()
    await run(() => {})
    expect(written).toEqual([])
  })

  it('none is written for a request without tasks', async () => {
    begin({ namespace: 'shop' })
    const handler = middy()
      .use(postInvoke())
      .handler(async () => {})
    await handler({}, lambdaContext())
    for (let turn = 0; turn < 10; turn++) await new Promise(resolve => setImmediate(resolve))
    expect(written).toEqual([])
  })
})

describe('options', () => {
  const dimensionsOf = (count: number) =>
    Object.fromEntries(Array.from({ length: count }, (_, index) => [`name ${index}`, 'value']))

  it.each<[string, any]>([
    ['none', undefined],
    ['an empty object', {}],
    ['explicit undefined', { namespace: undefined, dimensions: undefined }],
    ['many dimensions', { dimensions: dimensionsOf(30) }],
    ['the longest names', { namespace: 'x'.repeat(255), dimensions: { ['x'.repeat(250)]: 'x'.repeat(1_024) } }],
  ])('that are right: %s', (_, options) => {
    expect(thrownBy(() => begin(options))).toBeUndefined()
  })

  const NAMESPACE = 'text of 1 to 255 characters that does not begin with a colon'
  const DIMENSIONS = '1 to 30 names with their values, as CloudWatch takes them'
  const rest = (name: string, expected: string) => `the option ${name} of writeHoldMetrics() to be ${expected}, got `

  it.each<[any, string]>([
    ...[1, '', ':shop', 'x'.repeat(256), null].map<[any, string]>(namespace => [
      { namespace },
      rest('namespace', NAMESPACE),
    ]),
    ...[
      null,
      'service',
      ['service'],
      {},
      { service: 1 },
      { service: '' },
      { '': 'orders' },
      { ':service': 'orders' },
      { ['x'.repeat(251)]: 'orders' },
      { service: 'x'.repeat(1_025) },
      dimensionsOf(31),
      // These stand in each line already.
      ...['_aws', 'HoldDuration', 'requestId'].map(name => ({ [name]: 'orders' })),
    ].map<[any, string]>(dimensions => [{ dimensions }, rest('dimensions', DIMENSIONS)]),
    [{ name: 'shop' }, "the options of writeHoldMetrics() to be among namespace, dimensions, got 'name'"],
    ...[null, 'shop', true, () => {}, []].map<[any, string]>(options => [
      options,
      'the options of writeHoldMetrics() to be an object, got ',
    ]),
  ])('that are wrong: %j', (options, expected) => {
    const error = thrownBy(() => begin(options)) as TypeError
    expect(error).toBeInstanceOf(TypeError)
    expect(error).toMatchObject({ code: 'ERR_INVALID_OPTION', cause: { package: 'middy-post-invoke', data: options } })
    expect(error.message.startsWith(`Expected ${expected}`)).toBe(true)
  })
})
