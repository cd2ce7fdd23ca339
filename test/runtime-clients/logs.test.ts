// Our log lines as AWS's own clients write them where the function's log format is JSON: one object a line, with fields.
import { describe, expect, it } from '@jest/globals'
import { realClient } from '../support/require-runtime-clients.ts'
import { startRun } from '../support/run.ts'

describe.each([realClient('ric3'), realClient('ric4')])('as JSON: $name', client => {
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
