// What one environment could not do in time, through a queue: the real client of SQS on one side, createJobHandler() on the
// other, moto's server between them.
import {
  CreateQueueCommand,
  DeleteMessageCommand,
  GetQueueAttributesCommand,
  type Message,
  ReceiveMessageCommand,
} from '@aws-sdk/client-sqs'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import type { SQSEvent } from 'aws-lambda'
import { createJobHandler } from '../../dist/job-handler.js'
import { startHandOff, waiting } from '../support/hand-off-suite.ts'
import { type Moto, startMoto } from '../support/moto.ts'
import { realClient } from '../support/require-runtime-clients.ts'
import { startTarget } from '../support/target.ts'

let moto: Moto
beforeAll(async () => {
  moto = await startMoto()
}, 60_000)
afterAll(async () => await moto[Symbol.asyncDispose]())

let count = 0
const createQueue = async (isFifo = false) => {
  const QueueName = `overflow-${++count}${isFifo ? '.fifo' : ''}`
  const Attributes = isFifo ? { FifoQueue: 'true' } : {}
  const { QueueUrl = '' } = await moto.client.send(new CreateQueueCommand({ QueueName, Attributes }))
  return QueueUrl
}

/** Everything that is in the queue, as Lambda would hand it to a function. */
const receive = async (QueueUrl: string): Promise<SQSEvent & { messages: Message[] }> => {
  const messages: Message[] = []
  for (;;) {
    const { Messages = [] } = await moto.client.send(
      new ReceiveMessageCommand({ QueueUrl, MaxNumberOfMessages: 10, MessageSystemAttributeNames: ['All'] }),
    )
    if (Messages.length === 0) break
    messages.push(...Messages)
  }
  const name = QueueUrl.split('/').at(-1)
  const Records = messages.map(({ MessageId = '', Body = '', Attributes = {}, ReceiptHandle = '' }) => ({
    messageId: MessageId,
    body: Body,
    receiptHandle: ReceiptHandle,
    attributes: Attributes as any,
    messageAttributes: {},
    md5OfBody: '',
    eventSource: 'aws:sqs',
    eventSourceARN: `arn:aws:sqs:us-east-1:123456789012:${name}`,
    awsRegion: 'us-east-1',
  }))
  return { Records, messages }
}

const context = (milliseconds = 10_000) => ({ getRemainingTimeInMillis: () => milliseconds }) as any

/** Awkward on each of the ways: for JSON, for a shell, and for what a message of SQS may hold. */
const AWKWARD = '"}\n{"version":1}\u0000\u001f\u2028\ufffe\uffff $(id) `id` 🌧'

const combinations = [
  ['ric3', 'layer'],
  ['ric3', 'internal'],
  ['ric4', 'layer'],
  ['ric4', 'gate'],
] as const

describe.each(combinations)('overflow: %s, %s', (kind, companion) => {
  it.each([false, true])('goes to the queue, and is done behind it (FIFO: %s)', async isFifo => {
    const queue = await createQueue(isFifo)
    await using run = await startHandOff({
      client: realClient(kind),
      companion,
      timeout: 10_000,
      environment: { ...moto.variables, POST_INVOKE_OVERFLOW_QUEUE_URL: queue },
      answer: () => {}, // never
    })
    const { requestId, ...report } = await run.invoke({
      work: [['sleep', { ms: 60_000, text: AWKWARD }], [{ url: run.target.url, body: AWKWARD }], ['note']],
    })
    expect(report).toMatchObject({ status: 'success', timedOut: false })
    expect(run.marks(requestId).some(({ what, name }) => what === 'job' && name === `${requestId}-3`)).toBe(true)
    expect(waiting(run)).toEqual([])
    expect(run.logged('ERROR')).toEqual([])

    // The server is another one by now, and the job is quick.
    await using target = await startTarget()
    const event = await receive(queue)
    expect(event.Records).toHaveLength(2)
    for (const record of event.Records) record.body = record.body.replaceAll(run.target.url, target.url)
    const called: unknown[] = []
    const handler = createJobHandler({ sleep: (...given: unknown[]) => void called.push(given) })
    expect(await handler(event, context())).toEqual({ batchItemFailures: [] })
    expect(called).toEqual([
      [
        { ms: 60_000, text: AWKWARD },
        { idempotencyKey: `${requestId}-1`, awsRequestId: requestId, attempt: 1, signal: expect.any(AbortSignal) },
      ],
    ])
    expect(target.received.map(({ body }) => String(body))).toEqual([AWKWARD])
    expect([...target.keys()]).toEqual([[`${requestId}-2`, 1]])
    for (const { ReceiptHandle } of event.messages) {
      await moto.client.send(new DeleteMessageCommand({ QueueUrl: queue, ReceiptHandle }))
    }
  })
})

describe('overflow', () => {
  it('stays in the spool, with a log line, when there is no such queue', async () => {
    await using run = await startHandOff({
      client: realClient('ric4'),
      companion: 'layer',
      timeout: 10_000,
      environment: { ...moto.variables, POST_INVOKE_OVERFLOW_QUEUE_URL: `${await createQueue()}-gone` },
    })
    const report = await run.invoke({ work: [['sleep', { ms: 60_000 }]] })
    expect(report).toMatchObject({ status: 'success', timedOut: false })
    expect(run.logged('handed-off work could not be sent to the overflow queue')).toHaveLength(1)
    expect(run.logged('time was up before handed-off work was done: "sleep"')).toHaveLength(1)
    expect(waiting(run)).toHaveLength(1)
  })

  it('takes more than fits into one call', async () => {
    const queue = await createQueue()
    await using run = await startHandOff({
      client: realClient('ric4'),
      companion: 'layer',
      timeout: 10_000,
      environment: { ...moto.variables, POST_INVOKE_OVERFLOW_QUEUE_URL: queue },
    })
    const large = 'x'.repeat(100_000)
    await run.invoke({
      work: Array.from({ length: 25 }, (_, index) => [
        'sleep',
        { ms: 60_000, index, ...(index % 5 === 0 && { large }) },
      ]),
    })
    // What there was no time for, on a busy machine, is sent in the next.
    for (let again = 0; waiting(run).length > 0 && again < 3; again++) await run.invoke({})
    const { Attributes } = await moto.client.send(
      new GetQueueAttributesCommand({ QueueUrl: queue, AttributeNames: ['ApproximateNumberOfMessages'] }),
    )
    expect(Attributes?.ApproximateNumberOfMessages).toBe('25')
    expect(waiting(run)).toEqual([])
  })
})
