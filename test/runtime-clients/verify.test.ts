// `post-invoke verify` with functions in the sandbox, on AWS's own runtime clients: what it would find on Lambda.
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from '@jest/globals'
import { createSandbox, type Sandbox } from '../../src/sandbox/index.ts'
import { version } from '../../src/version.ts'
import { root } from '../support/command-line.ts'
import { realClient } from '../support/require-runtime-clients.ts'
import { createKit, type Deployed, type Kit } from '../support/verify.ts'

let kit: Kit
beforeAll(async () => {
  kit = await createKit()
})
afterAll(async () => kit[Symbol.asyncDispose]())

type Setup = {
  readonly client: 'ric3' | 'ric4'
  readonly layer: boolean
  readonly environment?: Record<string, string>
}

const deploy = async ({
  client,
  layer,
  environment = {},
}: Setup): Promise<Deployed & { readonly sandbox: Sandbox }> => {
  const sandbox = await createSandbox({
    taskRoot: kit.taskRoot,
    ...realClient(client).options('index.handler'),
    layers: layer ? [join(root, 'dist', 'layer')] : [],
    freeze: true,
    timeout: 20_000,
    environment: { POST_INVOKE_LOG_LEVEL: 'DEBUG', ...environment },
  })
  const reports: string[] = []
  return {
    sandbox,
    runtime: client === 'ric3' ? 'nodejs22.x' : 'nodejs24.x',
    async invoke(event) {
      const { requestId, answered, released } = sandbox.send(event)
      void released.then(({ releasedAt }) => {
        const duration = `Duration: ${releasedAt.toFixed(2)} ms\tBilled Duration: ${Math.ceil(releasedAt)} ms`
        reports.push(`REPORT RequestId: ${requestId}\t${duration}\tMemory Size: 512 MB\n`)
      })
      return (await answered).payload
    },
    log: () => [...sandbox.logs.map(({ text }) => text), ...reports],
  }
}

const embedded = { client: 'ric4', layer: false } as const

// Five seconds: the start of a process on a busy machine counts for the caller.
it.each([
  ['nodejs22-embedded', { client: 'ric3', layer: false }, 'internal', 'nodejs22.x'],
  ['nodejs22-layer', { client: 'ric3', layer: true }, 'layer', 'nodejs22.x'],
  ['nodejs24-embedded', embedded, 'gate', 'nodejs24.x'],
  ['nodejs24-layer', { client: 'ric4', layer: true }, 'layer', 'nodejs24.x'],
] as const)('%s: finds that tasks run after the answer, and by what', async (name, setup, companion, runtime) => {
  const deployed = await deploy(setup)
  const { code, stdout, stderr } = await kit.verify({ [name]: deployed }, ['--json', '--task-time', '5'])
  await deployed.sandbox[Symbol.asyncDispose]()
  expect([code, stderr]).toEqual([0, ''])
  const { ok, note, functions } = JSON.parse(stdout)
  expect([ok, note]).toEqual([true, expect.stringContaining('not on AWS itself')])
  expect(functions).toHaveLength(1)
  expect(functions[0]).toMatchObject({
    ...{ function: name, ok: true, companion, runtime, version, faults: [] },
    ...{ region: 'eu-central-1', architecture: 'arm64' },
    client: expect.stringMatching(/^aws-lambda-ric [34]\.\d+\.\d+$/),
  })
  expect(functions[0].invocations).toHaveLength(2)
  for (const { answeredAfter, tasksStarted, tasksEnded, lasted } of functions[0].invocations) {
    expect(tasksStarted).toBeLessThan(tasksEnded)
    expect(answeredAfter).toBeLessThan(tasksEnded)
    expect(lasted).toBeGreaterThanOrEqual(tasksEnded)
  }
  expect(stdout).not.toContain('123456789012')
})

it('says so where the caller waits for the tasks', async () => {
  const off = await deploy({ ...embedded, environment: { POST_INVOKE_COMPANION: 'off' } })
  const { code, stdout } = await kit.verify({ off })
  await off.sandbox[Symbol.asyncDispose]()
  expect(code).toBe(1)
  expect(stdout).toContain('✗ off: it is not as it should be\n    call 1: the caller had its answer after ')
  expect(stdout).toContain('It does not work here.')
  expect(stdout).toContain('tested with a local Lambda and with the emulator of Lambda, not on AWS itself')
})

it('says what AWS says of a function that is not there', async () => {
  const { code, stderr } = await kit.verify({}, ['nothing'])
  expect([code, stderr]).toEqual([
    1,
    'post-invoke: aws lambda get-function-configuration ended with 254. An error occurred (ResourceNotFoundException): nothing\n',
  ])
})

it('refuses a function that is not its own', async () => {
  const other: Deployed = { runtime: 'nodejs24.x', invoke: async () => '{"statusCode":200}', log: () => [] }
  const { code, stderr } = await kit.verify({ other })
  expect([code, stderr]).toEqual([
    1,
    expect.stringContaining('Expected other to be a function of post-invoke template --verify'),
  ])
})
