// The lines of the layer's companion, which no runtime client formats or filters.
import { expect, it } from '@jest/globals'
import { eventually, type Run, startRun } from '../support/run.ts'
import { builtInClient as client } from '../support/runtime-clients.ts'
import { taskRoot } from '../support/sandboxes.ts'

/** A function whose process is killed while it runs a task: only the layer is left to say so. */
const killed = async (environment: Record<string, string>): Promise<{ run: Run; requestId: string }> => {
  const run = await startRun({ client, companion: 'layer', environment })
  const pid = run.sandbox.runtimePid as number
  const sent = run.sandbox.send({ tasks: [{ kind: 'never', name: 'lost' }] })
  await eventually(() => run.marks(sent.requestId).some(({ what }) => what === 'start'), 'the task runs')
  process.kill(pid, 'SIGKILL')
  await sent.released
  await run.sandbox.shutdown()
  return { run, requestId: sent.requestId }
}

const ENDED = "middy-post-invoke: the function's process ended in the middle of request"

it('the log of the layer is text by default', async () => {
  const { run, requestId } = await killed({})
  await using _sandbox = run.sandbox
  expect(run.logged(ENDED)).toEqual([`${ENDED} ${requestId}; unfinished: "lost"`])
})

it.each(['JSON', 'Json'])('the log of the layer is one object a line where the format is %s', async format => {
  const { run, requestId } = await killed({ AWS_LAMBDA_LOG_FORMAT: format, AWS_LAMBDA_LOG_LEVEL: 'ERROR' })
  await using _sandbox = run.sandbox
  expect(run.logged(ENDED).map(line => JSON.parse(line))).toEqual([
    {
      timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
      level: 'ERROR',
      message: `${ENDED} ${requestId}; unfinished: "lost"`,
      requestId,
      tasks: ['lost'],
    },
  ])
})

it('what the layer says of itself is one object a line too', async () => {
  const run = await startRun({
    client,
    companion: 'layer',
    taskRoot, // without the middleware, which would not let the variable pass
    environment: { AWS_LAMBDA_LOG_FORMAT: 'JSON', POST_INVOKE_FOLDER: 'relative' },
  })
  await using _sandbox = run.sandbox
  await run.sandbox.shutdown()
  expect(run.logged('nothing is held').map(line => JSON.parse(line))).toEqual([
    {
      timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
      level: 'ERROR',
      message: expect.stringMatching(/^middy-post-invoke: no FIFO can be made at relative\/.*: nothing is held$/),
    },
  ])
})

it.each([
  ['AWS_LAMBDA_LOG_LEVEL', 'FATAL', 'JSON', 0],
  ['AWS_LAMBDA_LOG_LEVEL', 'error', 'JSON', 1],
  ['AWS_LAMBDA_LOG_LEVEL', 'unknown', 'JSON', 1],
  ['AWS_LAMBDA_LOG_LEVEL', 'FATAL', 'Text', 1], // Lambda has a level for JSON alone
  ['POST_INVOKE_LOG_LEVEL', 'SILENT', 'JSON', 0],
  ['POST_INVOKE_LOG_LEVEL', 'SILENT', 'Text', 0],
])('the log of the layer obeys %s: %s (%s)', async (name, level, format, lines) => {
  const { run } = await killed({ [name]: level, AWS_LAMBDA_LOG_FORMAT: format })
  await using _sandbox = run.sandbox
  expect(run.logged(ENDED)).toHaveLength(lines)
})
