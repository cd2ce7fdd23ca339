// What a deployment tool would hand to Lambda, run in the sandbox under every companion and AWS's own runtime clients.
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { expect, it } from '@jest/globals'
import type { Answer } from '../../src/sandbox/types.ts'
import { root } from '../package/packed.ts'
import { bundle } from '../support/bundle.ts'
import { realClient } from '../support/require-runtime-clients.ts'
import { type Run, startRun } from '../support/run.ts'
import { builtInClient, type RuntimeClient } from '../support/runtime-clients.ts'

export type Deployment = {
  /** The function's code: a folder, or a zip. */
  readonly code: string
  readonly handler: string
  /** In seconds. */
  readonly timeout: number
  /** Values that are no strings are known on AWS only: the test gives them. */
  readonly variables: Readonly<Record<string, unknown>>
  /** Folders, or zips. */
  readonly layers: readonly string[]
}

type Setup = { readonly client: RuntimeClient; readonly companion: string; readonly hasLayer: boolean }

const setups: readonly Setup[] = [
  { client: builtInClient, companion: 'gate', hasLayer: false },
  { client: realClient('ric4'), companion: 'gate', hasLayer: false },
  { client: realClient('ric3'), companion: 'internal', hasLayer: false },
  ...[builtInClient, realClient('ric4'), realClient('ric3')].map(client => ({
    client,
    companion: 'layer',
    hasLayer: true,
  })),
]

const TEST_MS = 60_000

/** Event of an HTTP API or a function URL. */
export const httpEvent = (body: unknown) => ({
  ...JSON.parse(readFileSync(join(root, 'examples/api-gateway/event.json'), 'utf8')),
  body: JSON.stringify(body),
})

export type Started = {
  readonly run: Run
  readonly analytics: Analytics
}

/** What is sent, and what has to come of it. */
export type Scenario = (started: Started) => Promise<void>

/**
 * Runs `scenario` with what is deployed, with and without its layer, and with the same handler bundled to CommonJS.
 * The package chooses its companion by itself, as on Lambda, and is to say nothing but which.
 */
export const describeDeployment = (
  deployment: () => Deployment | Promise<Deployment>,
  entry: string,
  scenario: Scenario,
) => {
  const each = (some: readonly Setup[]) =>
    it.each(some.map(setup => [`${setup.client.name}, ${setup.companion}`, setup] as const))
  const words = 'answers, and runs its tasks after the answer while the environment is held'

  each(setups)(`${words}: %s`, async (_, setup) => runIn(setup, await deployment(), scenario), TEST_MS)

  each(setups.filter(({ client }) => client === builtInClient))(
    `${words}, bundled to CommonJS: %s`,
    async (_, setup) => {
      using bundled = await bundle(entry, { tool: 'esbuild', format: 'cjs', minify: false })
      await runIn(setup, { ...(await deployment()), code: bundled.folder, handler: 'index.handler' }, scenario)
    },
    TEST_MS,
  )
}

const runIn = async (setup: Setup, deployment: Deployment, scenario: Scenario) => {
  const { client, companion, hasLayer } = setup
  using unpacked = await unpack(deployment)
  await using analytics = await startAnalytics()
  const run = await startRun({
    client,
    taskRoot: unpacked.code,
    handler: deployment.handler,
    layers: hasLayer ? unpacked.layers : [],
    timeout: deployment.timeout * 1_000,
    freeze: true,
    environment: { ...variablesOf(deployment, analytics.urls), POST_INVOKE_LOG_LEVEL: 'DEBUG' },
  })
  await using sandbox = run.sandbox
  expect(Object.keys(sandbox.extensionPids)).toEqual(hasLayer ? ['post-invoke'] : [])
  await scenario({ run, analytics })
  await sandbox.shutdown()
  expect(run.logged('').map(line => line.replace(/.*middy-post-invoke: /, ''))).toEqual([`companion: ${companion}`])
}

const variablesOf = ({ variables }: Deployment, urls: Analytics['urls']): Record<string, string> =>
  Object.fromEntries(
    Object.entries(variables).map(([name, value]) => {
      const known = urls[name] ?? value
      if (typeof known !== 'string') throw new Error(`The test has no value for ${name}: ${JSON.stringify(value)}`)
      return [name, known]
    }),
  )

/** Each into a folder of its own with nothing around it, as on Lambda. */
const unpack = async ({ code, layers }: Deployment) => {
  const folder = mkdtempSync(join(tmpdir(), 'post-invoke-deployed-'))
  const [task, ...opt] = await Promise.all(
    [code, ...layers].map(async (source, index) => {
      const target = join(folder, String(index))
      if (statSync(source).isDirectory()) cpSync(source, target, { recursive: true })
      else {
        mkdirSync(target)
        // With the modes that are in it.
        await promisify(execFile)('unzip', ['-q', source, '-d', target])
      }
      return target
    }),
  )
  return { code: task as string, layers: opt, [Symbol.dispose]: () => rmSync(folder, { recursive: true }) }
}

type Report = { readonly body: string; readonly at: number; readonly response: ServerResponse }

export type Analytics = AsyncDisposable & {
  /** By the names of the variables in which the examples look for them. */
  readonly urls: Readonly<Record<string, string>>
  /** The next report, which waits for its answer. */
  next(): Promise<Report>
}

/**
 * The services that the examples call. The one for orders answers by itself, and refuses what is `unavailable`. The one
 * for reports answers when the test does.
 */
export const startAnalytics = async (): Promise<Analytics> => {
  const reports: Report[] = []
  const server = createServer(async (request, response) => {
    const at = monotonicNow()
    const body = await text(request)
    if (request.url?.startsWith('/orders/')) {
      response.writeHead(body.includes('unavailable') ? 503 : 204).end()
    } else {
      reports.push({ body, at, response })
      server.emit('report')
    }
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    urls: { ANALYTICS_URL: `${address}/reports`, ORDERS_URL: `${address}/orders/` },
    async next() {
      if (reports.length === 0) await once(server, 'report', { signal: AbortSignal.timeout(TEST_MS) })
      return reports.shift() as Report
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    },
  }
}

/** The clock of a run's times. */
const monotonicNow = () => Number(process.hrtime.bigint()) / 1e6

/** Longer than an environment that nothing holds would take to be released. */
const MOMENT_MS = 50

/**
 * Sends an event, and expects what `expected` makes of its answer to be reported, in any order: after the answer, and with
 * the environment held until the service has taken the reports.
 */
export const expectReports = async (
  { run, analytics }: Started,
  event: unknown,
  expected: (answer: Answer) => unknown[],
): Promise<void> => {
  const { requestId, answered, released } = run.sandbox.send(event)
  const answer = await answered
  expect(answer.kind).toBe('response')
  const wanted = expected(answer)
  const reported: unknown[] = []
  while (reported.length < wanted.length) {
    const { body, at, response } = await analytics.next()
    expect(at).toBeGreaterThan(run.time('response', requestId))
    reported.push(JSON.parse(body))
    await sleep(MOMENT_MS)
    expect(() => run.time('released', requestId)).toThrow('no event released')
    response.writeHead(204).end()
  }
  expect(reported).toHaveLength(wanted.length)
  expect(reported).toEqual(expect.arrayContaining(wanted))
  expect(await released).toMatchObject({ status: 'success', timedOut: false })
}

/** An order to the handler that several examples share. */
export const expectOrders = async (started: Started): Promise<void> => {
  for (const product of ['tea', 'coffee']) {
    await expectReports(started, httpEvent({ product }), answer => {
      const { statusCode, body } = answer.body()
      expect(statusCode).toBe(201)
      const order = JSON.parse(body)
      expect(order).toEqual({ id: expect.any(String), product })
      return [order]
    })
  }
}
