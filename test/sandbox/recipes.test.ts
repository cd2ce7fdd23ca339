// The handlers of docs/recipes.md, each run as it stands in examples/recipes. Needs `npm run build`.
import { readdirSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { createSandbox } from '../../dist/sandbox/index.js'

const taskRoot = fileURLToPath(new URL('../../examples/recipes', import.meta.url))

/** Stands for every service that the recipes call. */
const received: { path: string; body: string }[] = []
let status = 200
const server = createServer(async (request, response) => {
  let body = ''
  for await (const chunk of request) body += chunk
  received.push({ path: request.url ?? '', body })
  response.writeHead(status, { 'content-type': 'application/json' }).end('{"EUR":1}')
})

const address = () => `http://127.0.0.1:${(server.address() as AddressInfo).port}`

beforeAll(() => new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve)))
afterAll(() => new Promise(resolve => server.close(resolve)))

/** Runs one recipe, and says what it answered, which tasks ended after the answer, and what it logged. */
const run = async (name: string, events: readonly unknown[]) => {
  received.length = 0
  status = 200
  await using sandbox = await createSandbox({
    taskRoot,
    handler: `${name}.handler`,
    timeout: 10_000,
    environment: {
      POST_INVOKE_COMPANION: 'embedded',
      WEBHOOK_URL: `${address()}/webhook`,
      RATES_URL: `${address()}/rates`,
      MAIL_URL: `${address()}/mail`,
      QUEUE_URL: `${address()}/queue`,
      AWS_REGION: 'eu-central-1',
      AWS_ACCESS_KEY_ID: 'none',
      AWS_SECRET_ACCESS_KEY: 'none',
      AWS_ENDPOINT_URL: address(),
    },
  })
  const reports = []
  for (const event of events) reports.push(await sandbox.invoke(event))
  return { reports, logs: sandbox.logs.map(({ text }) => text) }
}

const faults = (logs: readonly string[]) => logs.filter(text => text.includes('middy-post-invoke:'))

describe('recipes', () => {
  it('are all tried, but for the one that needs a database', () => {
    const tried = readFileSync(fileURLToPath(import.meta.url), 'utf8').matchAll(/await run\('(\w+)'/g)
    expect(readdirSync(taskRoot).sort()).toEqual([...Array.from(tried, ([, name]) => `${name}.ts`), 'pool.ts'].sort())
  })

  it('webhook: tells another service', async () => {
    const { reports, logs } = await run('webhook', [{ body: 'tea' }])
    expect(reports.map(report => [report.status, report.body().statusCode])).toEqual([['success', 201]])
    expect(received).toEqual([{ path: '/webhook', body: reports[0]?.body().body }])
    expect(faults(logs)).toEqual([])
  })

  it('chat: answers in time', async () => {
    const body = new URLSearchParams({ text: 'the shop', response_url: `${address()}/chat` }).toString()
    const { reports, logs } = await run('chat', [{ body }])
    expect(reports[0]?.body().statusCode).toBe(200)
    expect(received).toEqual([{ path: '/chat', body: '{"text":"All is well with the shop."}' }])
    expect(faults(logs)).toEqual([])
  })

  it('cache: answers from memory', async () => {
    const { reports, logs } = await run('cache', [{}, {}])
    expect(reports.map(report => report.body())).toEqual([{ EUR: 1 }, { EUR: 1 }])
    expect(received).toHaveLength(1)
    expect(faults(logs)).toEqual([])
  })

  it('outcome: one task for success, one for failure', async () => {
    const { reports, logs } = await run('outcome', [{ body: 'tea' }, {}])
    expect(reports.map(report => report.body().statusCode)).toEqual([201, 500])
    expect(faults(logs)).toEqual([])
  })

  it('sqs: reports partial failures', async () => {
    const { reports, logs } = await run('sqs', [{ Records: [{ messageId: '1', body: 'tea' }] }])
    expect(reports[0]?.body()).toEqual({ batchItemFailures: [] })
    expect(faults(logs)).toEqual([])
  })

  it('stream: defers from the stream itself', async () => {
    const { reports, logs } = await run('stream', [{}])
    expect(reports[0]?.payload).toMatch(/one\ntwo\nthree\n$/)
    expect(faults(logs)).toEqual([])
  })

  it('flush: sends what all tasks have counted', async () => {
    const { reports, logs } = await run('flush', [{}])
    expect(reports[0]?.status).toBe('success')
    const metrics = logs.filter(text => text.startsWith('{"_aws"')).map(text => JSON.parse(text))
    expect(metrics).toMatchObject([{ called: 1, 'followed up': 1 }])
    expect(faults(logs)).toEqual([])
  })

  it('keep: queues what failed', async () => {
    status = 500
    const { reports, logs } = await run('keep', [{ to: 'tea@example.com' }])
    expect(reports[0]?.body()).toEqual({ statusCode: 202 })
    expect(received[0]).toEqual({ path: '/mail', body: 'tea@example.com' })
    expect(faults(logs)).toEqual([])
  })

  it('long: works and yields', async () => {
    const { reports, logs } = await run('long', [{ texts: ['one two', 'two three'] }])
    expect(reports[0]?.body()).toEqual({ statusCode: 202 })
    expect(faults(logs)).toEqual([])
  })

  it('order: defers from middlewares', async () => {
    const { reports, logs } = await run('order', [{}])
    expect(reports[0]?.body()).toEqual({ statusCode: 204 })
    expect(faults(logs)).toEqual([])
  })
})
