// `post-invoke verify` with a function in the emulator. It answers its caller only when the invocation is over, and that
// is what the verdict has to say.
import { expect, it } from '@jest/globals'
import { createKit } from '../support/verify.ts'
import { startEmulator } from './rie.ts'

it.each([
  ['RIC 3', false, 'internal'],
  ['RIC 4', true, 'layer'],
] as const)('on %s with layer: %s', async (runtimeClient, layer, companion) => {
  await using kit = await createKit()
  const emulator = await startEmulator({
    runtimeClient,
    layer,
    taskRoot: kit.taskRoot,
    environment: { POST_INVOKE_LOG_LEVEL: 'DEBUG' },
  })
  try {
    const inEmulator = {
      runtime: 'nodejs24.x',
      invoke: async (event: unknown) => JSON.stringify((await emulator.invoke(event as object)).body),
      log: () => emulator.log.split('\n'),
    }
    const { code, stdout } = await kit.verify({ inEmulator }, ['--json'])
    expect(code).toBe(1)
    const [verdict] = JSON.parse(stdout).functions
    expect(verdict).toMatchObject({ companion, client: expect.stringContaining('aws-lambda-ric ') })
    for (const { tasksStarted, tasksEnded, lasted } of verdict.invocations) {
      expect(tasksStarted).toBeLessThan(tasksEnded)
      expect(lasted).toBeGreaterThanOrEqual(tasksEnded)
    }
    expect(verdict.faults).toEqual(
      [1, 2].map(call => expect.stringContaining(`call ${call}: the caller had its answer after`)),
    )
  } finally {
    emulator.kill()
  }
})
