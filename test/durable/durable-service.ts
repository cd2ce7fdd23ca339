// Lambda's service for durable executions, as far as it can be had outside of Lambda: AWS's own local test runner keeps the
// execution and decides when to invoke again, while the function runs in the sandbox, with the real SDK talking to it over
// HTTP. It is not what runs on Lambda: there is no timeout of an execution, and nothing is stored.
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { LocalDurableTestRunner } from '@aws/durable-execution-sdk-js-testing'
import type { InvocationReport, Sandbox } from '../../src/sandbox/types.ts'

/** What the runner hands to a handler that it calls in its own process. */
type Input = {
  readonly DurableExecutionArn: string
  readonly durableExecutionClient: {
    checkpoint(parameters: unknown): Promise<unknown>
    getExecutionState(parameters: unknown): Promise<unknown>
  }
}

export type Execution = {
  readonly status: string
  readonly result: unknown
  readonly error: string | undefined
  /** Of each invocation that the execution took, in order. */
  readonly reports: readonly InvocationReport[]
}

export type DurableService = {
  /** What points the SDK in a function to this service. */
  readonly environment: Readonly<Record<string, string>>
  /** Runs a durable execution of the function in a sandbox to its end. */
  execute(sandbox: Sandbox, payload: unknown): Promise<Execution>
  close(): Promise<void>
}

export const startDurableService = async (): Promise<DurableService> => {
  await LocalDurableTestRunner.setupTestEnvironment()
  const clients = new Map<string, Input['durableExecutionClient']>()

  const server = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    // https://docs.aws.amazon.com/lambda/latest/api/API_CheckpointDurableExecution.html
    const { pathname, searchParams } = new URL(request.url ?? '', 'http://service')
    const [, encoded = '', action] = /^\/2025-12-01\/durable-executions\/(.+)\/(checkpoint|state)$/.exec(pathname) ?? []
    const DurableExecutionArn = decodeURIComponent(encoded)
    const client = clients.get(DurableExecutionArn)
    try {
      if (!client) throw new Error(`No execution for ${request.method} ${request.url}`)
      const given =
        action === 'checkpoint'
          ? await client.checkpoint({ DurableExecutionArn, ...JSON.parse(body) })
          : await client.getExecutionState({ DurableExecutionArn, ...Object.fromEntries(searchParams) })
      response.setHeader('content-type', 'application/json').end(JSON.stringify(given, secondsSinceEpoch))
    } catch (error) {
      response.writeHead(500, { 'content-type': 'application/json' }).end(JSON.stringify({ message: String(error) }))
    }
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo

  return {
    environment: {
      AWS_ENDPOINT_URL_LAMBDA: `http://127.0.0.1:${port}`,
      AWS_ACCESS_KEY_ID: 'none',
      AWS_SECRET_ACCESS_KEY: 'none',
    },
    async execute(sandbox, payload) {
      const reports: InvocationReport[] = []
      const invoke = async (input: Input) => {
        clients.set(input.DurableExecutionArn, input.durableExecutionClient)
        const { durableExecutionClient: _, ...event } = input
        const report = await sandbox.invoke(event)
        reports.push(report)
        if (report.kind === 'error') throw new Error(report.payload)
        return report.body()
      }
      const runner = new LocalDurableTestRunner({ handlerFunction: invoke as never })
      const execution = await runner.run({ payload })
      const status = String(execution.getStatus())
      return {
        status,
        result: status === 'SUCCEEDED' ? execution.getResult() : undefined,
        error: status === 'FAILED' ? execution.getError().errorMessage : undefined,
        reports,
      }
    },
    async close() {
      await LocalDurableTestRunner.teardownTestEnvironment()
      server.close()
      server.closeAllConnections()
    },
  }
}

const secondsSinceEpoch = (key: string, value: unknown) =>
  key.endsWith('Timestamp') && typeof value === 'string' ? Date.parse(value) / 1000 : value
