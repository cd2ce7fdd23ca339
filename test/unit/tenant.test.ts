// The tenant of a function that isolates tenants: in log lines, in messages of the channels, and with work from the queue.
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { afterEach, describe, expect, it, jest } from '@jest/globals'
import middy from '@middy/core'
import { ENTRY_VERSION, parseEntry } from '../../src/hand-off/entry.ts'
import { withPostInvoke } from '../../src/handler.ts'
import postInvoke, { type Options } from '../../src/index.ts'
import { createJobHandler } from '../../src/job-handler.ts'
import { lambdaContext, turns, until } from './helpers.ts'

const act = async (_event: unknown, context: any) => {
  context.defer(() => {
    throw new Error('failed')
  })
}

const channels = ['tracing:middy-post-invoke:task:start', 'middy-post-invoke:task:unstarted']
const messages: any[] = []
const take = (message: unknown) => void messages.push(message)
afterEach(() => {
  for (const name of channels) unsubscribe(name, take)
  messages.length = 0
})

describe.each([
  ['the middleware', (options: Options) => middy<any, any>().use(postInvoke(options)).handler(act)],
  ['withPostInvoke', (options: Options) => withPostInvoke(act, options)],
])('behind %s', (_, wrap) => {
  it.each([
    ['blue', { awsRequestId: 'r1', tenantId: 'blue' }],
    ['blue, of a durable execution', { lambdaContext: { awsRequestId: 'r1', tenantId: 'blue' } }],
  ])('names the tenant %s', async (_, context) => {
    for (const name of channels) subscribe(name, take)
    const logger = { debug() {}, warn() {}, error: jest.fn() }
    await wrap({ logger })({}, context as any)
    await until(() => logger.error.mock.calls.length === 1)
    const fields = { task: 'task 1', requestId: 'r1', tenantId: 'blue', error: new Error('failed') }
    expect(logger.error).toHaveBeenCalledWith(expect.stringContaining('failed'), fields)
    expect(messages).toMatchObject([{ awsRequestId: 'r1', tenantId: 'blue' }])
  })

  it('has no empty field without one', async () => {
    const logger = { debug() {}, warn() {}, error: jest.fn() }
    await wrap({ logger })({}, lambdaContext('r2'))
    await until(() => logger.error.mock.calls.length === 1)
    expect(Object.keys(logger.error.mock.calls[0]?.[1] as object)).toEqual(['task', 'requestId', 'error'])
    await turns(2)
  })
})

describe('work from the queue', () => {
  const entry = (more: object) =>
    JSON.stringify({
      ...{ version: ENTRY_VERSION, key: 'k', id: 'i', requestId: 'r1', name: 'note' },
      ...{ work: { kind: 'job', job: 'note' }, ...more },
    })

  it.each([['blue'], [undefined]])('has its tenant: %p', async tenantId => {
    const note = jest.fn()
    const record = { messageId: 'm', body: entry({ tenantId }), attributes: { ApproximateReceiveCount: '1' } }
    const event = { Records: [{ ...record, eventSourceARN: 'arn:aws:sqs:us-east-1:123456789012:queue' }] } as any
    const context = lambdaContext('r2', () => 10_000)
    expect(await createJobHandler({ note })(event, context)).toEqual({ batchItemFailures: [] })
    expect(note).toHaveBeenCalledWith(undefined, expect.objectContaining({ awsRequestId: 'r1', tenantId }))
  })

  it('is refused with a tenant that is no text', () => {
    expect(parseEntry(entry({ tenantId: 1 }))).toBe('its tenantId is no text')
  })
})
