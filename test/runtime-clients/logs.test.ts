// Our log lines as AWS's own clients write them where the function's log format is JSON: one object a line, with fields. And
// the lines of metrics, which are no log lines: whatever the format, nothing may stand before them.
import { describe, expect, it } from '@jest/globals'
import { realClient } from '../support/require-runtime-clients.ts'
import { eventually, startRun } from '../support/run.ts'

const clients = [realClient('ric3'), realClient('ric4')]

describe.each(clients)('as JSON: $name', client => {
  const start = (environment: Record<string, string>) =>
    startRun({ client, environment: { AWS_LAMBDA_LOG_FORMAT: 'JSON', ...environment } })

  it('a line has task, request and error as fields', async () => {
    const run = await start({ AWS_LAMBDA_LOG_LEVEL: 'ERROR' })
    await using _sandbox = run.sandbox
    const { requestId } = await run.invoke({ tasks: [{ kind: 'reject', name: 'mail' }] })
    const message = `middy-post-invoke: task "mail" of request ${requestId} failed:`
    expect(run.logged(requestId, 'failed:').map(line => JSON.parse(line))).toEqual([
      {
        timestamp: expect.any(String),
        level: 'ERROR',
        requestId,
        message: {
          message,
          task: 'mail',
          requestId,
          error: {
            errorType: 'Error',
            errorMessage: 'task rejected',
            stackTrace: expect.arrayContaining(['Error: task rejected']),
          },
        },
      },
    ])
  })

  it('a line of a level below that of the function is not written', async () => {
    const run = await start({ AWS_LAMBDA_LOG_LEVEL: 'FATAL' })
    await using _sandbox = run.sandbox
    await run.invoke({ tasks: [{ kind: 'reject', name: 'mail' }] })
    expect(run.logged('')).toEqual([])
  })
})

describe.each(clients)('metrics: $name', client => {
  it.each(['Text', 'JSON'])('are written as they are where the format is %s', async format => {
    const run = await startRun({
      client,
      handler: 'metrics.handler',
      freeze: true,
      environment: { AWS_LAMBDA_LOG_FORMAT: format },
    })
    await using _sandbox = run.sandbox
    const lines = () => run.sandbox.logs.filter(({ text }) => text.includes('HoldDuration'))
    const requests: string[] = []
    for (const tasks of [[{ kind: 'quick' }, { kind: 'reject' }], [], [{ kind: 'sleep', ms: 20 }]]) {
      const { requestId } = await run.invoke({ tasks })
      if (tasks.length > 0) requests.push(requestId)
      await eventually(() => lines().length === requests.length, 'a line for each hold')
    }
    expect(lines().map(({ text }) => JSON.parse(text))).toMatchObject([
      { requestId: requests[0], FunctionName: 'sandbox', TasksRun: 2, TasksFailed: 1, TasksCarried: 0 },
      { requestId: requests[1], FunctionName: 'sandbox', TasksRun: 1, TasksFailed: 0, TasksCarried: 0 },
    ])
  })
})
