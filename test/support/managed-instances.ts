// Lambda Managed Instances, as far as the function's processes see them: one process, many worker threads that each ask
// for invocations, several at once, and extensions that may not subscribe to INVOKE. The sandbox runs one at a time.
import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { fixtures } from './run.ts'

export type Answered = { requestId: string; body: string; t: number }

export type ManagedInstance = {
  /** Invokes the function; resolves with its answer. */
  invoke(event: unknown): Promise<Answered>
  /** What extensions registered for. */
  readonly registrations: unknown[]
  readonly lines: string[]
  /** Sends SIGTERM and waits for the end of the process, killing it after `milliseconds`. */
  stop(milliseconds: number): Promise<{ signal: string | null; hadToBeKilled: boolean }>
}

export const startManagedInstance = async (options: {
  /** The folder of the package aws-lambda-ric 4. */
  ric: string
  handler: string
  workers: number
  /** The folder of the function's code. Default: that of the tests. */
  taskRoot?: string
  environment?: Record<string, string>
}): Promise<ManagedInstance> => {
  const waiting: ServerResponse[] = []
  const queued: { requestId: string; event: unknown }[] = []
  const answers = new Map<string, (answered: Answered) => void>()
  const registrations: unknown[] = []
  let polls = 0

  const dispatch = () => {
    while (waiting.length > 0 && queued.length > 0) {
      const { requestId, event } = queued.shift() as { requestId: string; event: unknown }
      waiting.shift()?.writeHead(200, headersOf(requestId)).end(JSON.stringify(event))
    }
  }

  const server = createServer(async (request, response) => {
    const path = request.url ?? ''
    if (path.endsWith('/runtime/invocation/next')) {
      polls++
      waiting.push(response)
      dispatch()
      return
    }
    const body = await text(request)
    const requestId = /\/invocation\/([^/]+)\/(?:response|error)$/.exec(path)?.[1]
    if (requestId !== undefined) {
      answers.get(requestId)?.({ requestId, body, t: Number(process.hrtime.bigint()) / 1e6 })
      response.writeHead(202).end('{}')
    } else if (path.endsWith('/extension/register')) {
      registrations.push(JSON.parse(body))
      response.writeHead(200, { 'Lambda-Extension-Identifier': randomUUID() }).end('{}')
    }
    // event/next of an extension without events is never answered
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')

  const child: ChildProcess = spawn(process.execPath, [join(options.ric, 'index.mjs')], {
    cwd: options.taskRoot ?? fixtures,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.env.PATH,
      _HANDLER: options.handler,
      LAMBDA_TASK_ROOT: options.taskRoot ?? fixtures,
      AWS_LAMBDA_RUNTIME_API: `127.0.0.1:${(server.address() as AddressInfo).port}`,
      AWS_EXECUTION_ENV: 'AWS_Lambda_nodejs24.x',
      AWS_LAMBDA_MAX_CONCURRENCY: '16',
      AWS_LAMBDA_NODEJS_WORKER_COUNT: String(options.workers),
      AWS_LAMBDA_FUNCTION_NAME: 'f',
      AWS_LAMBDA_FUNCTION_VERSION: '1',
      AWS_LAMBDA_FUNCTION_MEMORY_SIZE: '2048',
      AWS_LAMBDA_LOG_GROUP_NAME: 'g',
      AWS_LAMBDA_LOG_STREAM_NAME: 's',
      ...options.environment,
    },
  })
  const lines: string[] = []
  for (const stream of [child.stdout, child.stderr]) {
    if (stream) createInterface(stream).on('line', line => lines.push(messageOf(line)))
  }
  const ended = once(child, 'exit') as Promise<[number | null, string | null]>

  // Every worker has loaded the function once it asks for an invocation.
  const limit = performance.now() + 15_000
  while (polls < options.workers) {
    if (performance.now() > limit || child.exitCode !== null) throw new Error(`no start:\n${lines.join('\n')}`)
    await new Promise(resolve => setTimeout(resolve, 5))
  }

  return {
    registrations,
    lines,
    invoke(event) {
      const requestId = randomUUID()
      const { promise, resolve } = Promise.withResolvers<Answered>()
      answers.set(requestId, resolve)
      queued.push({ requestId, event })
      dispatch()
      return promise
    },
    async stop(milliseconds) {
      let hadToBeKilled = false
      child.kill('SIGTERM')
      const timer = setTimeout(() => {
        hadToBeKilled = true
        child.kill('SIGKILL')
      }, milliseconds)
      const [, signal] = await ended
      clearTimeout(timer)
      server.closeAllConnections()
      server.close()
      return { signal, hadToBeKilled }
    },
  }
}

/** The client logs JSON here. */
const messageOf = (line: string): string => (line.startsWith('{') ? String(JSON.parse(line).message) : line)

const headersOf = (requestId: string) => ({
  'Content-Type': 'application/json',
  'Lambda-Runtime-Aws-Request-Id': requestId,
  'Lambda-Runtime-Deadline-Ms': String(Date.now() + 60_000),
  'Lambda-Runtime-Invoked-Function-Arn': 'arn:aws:lambda:us-east-1:123456789012:function:f',
})
