// The package against AWS's own supervisor and runtime clients: who registers, in which order an invocation happens, and
// what ends the processes. All of it is read in the emulator's log; rie.ts says in what the emulator differs from Lambda.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { handOffFixtures } from '../support/hand-off-suite.ts'
import { type Answer, type Emulator, type RuntimeClient, startEmulator } from './rie.ts'

type Case = {
  name: string
  runtimeClients: RuntimeClient[]
  layer: boolean
  companion: string
  registrations: string[]
  /** Whose `next` ends an invocation. The runtime's own says nothing otherwise: it comes at any time after its response. */
  releasedBy: 'runtime: next' | 'extension: next'
  shutdown: string[]
}

const cases: Case[] = [
  {
    name: 'layer',
    runtimeClients: ['RIC 4', 'RIC 3'],
    layer: true,
    companion: 'auto',
    registrations: ['external post-invoke: INVOKE SHUTDOWN'],
    releasedBy: 'extension: next',
    shutdown: ['runtime: SIGTERM', 'runtime: SIGKILL', 'extension: SHUTDOWN', 'extension: ended'],
  },
  {
    name: 'internal extension',
    runtimeClients: ['RIC 4', 'RIC 3'],
    layer: false,
    companion: 'internal',
    registrations: ['internal middy-post-invoke: INVOKE'],
    releasedBy: 'extension: next',
    shutdown: ['runtime: SIGTERM', 'runtime: SIGKILL'],
  },
  {
    name: 'gate',
    runtimeClients: ['RIC 4'],
    layer: false,
    companion: 'embedded',
    registrations: [],
    releasedBy: 'runtime: next',
    shutdown: ['runtime: SIGKILL'],
  },
  {
    // Init waits for every extension in the layer, also for one that is not wanted.
    name: 'gate, the layer attached but switched off',
    runtimeClients: ['RIC 4'],
    layer: true,
    companion: 'embedded',
    registrations: ['external post-invoke: no events'],
    releasedBy: 'runtime: next',
    shutdown: ['runtime: SIGTERM', 'runtime: SIGKILL', 'extension: SIGKILL'],
  },
]

describe.each(cases.flatMap(given => given.runtimeClients.map(runtimeClient => ({ ...given, runtimeClient }))))(
  '$name on $runtimeClient',
  ({ runtimeClient, layer, companion, registrations, releasedBy, shutdown }) => {
    let emulator: Emulator | undefined
    const answers: Answer[] = []

    beforeAll(async () => {
      emulator = await startEmulator({ runtimeClient, layer, environment: { POST_INVOKE_COMPANION: companion } })
      for (const event of [{}, { fails: true }, {}]) answers.push(await emulator.invoke(event))
      await emulator.stop()
    })

    afterAll(() => emulator?.kill())

    test('registers what holds the environment, and nothing else', () => {
      expect(emulator?.registrations).toEqual(registrations)
    })

    test('answers every invocation, in one environment', () => {
      expect(answers).toEqual([
        { statusCode: 200, body: { statusCode: 200, body: 'ok' } },
        { statusCode: 200, body: expect.objectContaining({ errorMessage: 'the handler fails' }) },
        { statusCode: 200, body: { statusCode: 200, body: 'ok' } },
      ])
      expect(emulator?.inits).toBe(1)
    })

    test('runs tasks after the response, and ends the invocation after the tasks', () => {
      const invocations = emulator?.invocations.map(invocation =>
        invocation.filter(fact => fact !== 'runtime: next' || releasedBy === 'runtime: next'),
      )
      expect(invocations).toEqual([
        ['handler', 'runtime: response', 'task-start', 'task-end', releasedBy],
        ['handler', 'runtime: error', 'task-start', 'task-end', releasedBy],
        ['handler', 'runtime: response', 'task-start', 'task-end', releasedBy],
      ])
    })

    test('ends as Lambda ends it', () => {
      expect(emulator?.shutdown).toEqual(shutdown)
    })
  },
)

const SHUTDOWNS = 10

type ShutdownCase = Omit<Case, 'releasedBy' | 'shutdown'> & { afterHooks: string[] }

const shutdownCases: ShutdownCase[] = [
  {
    name: 'layer',
    runtimeClients: ['RIC 4', 'RIC 3'],
    layer: true,
    companion: 'auto',
    registrations: ['external post-invoke: INVOKE SHUTDOWN'],
    afterHooks: ['extension: SHUTDOWN', 'extension: ended'],
  },
  {
    name: 'internal extension',
    runtimeClients: ['RIC 4', 'RIC 3'],
    layer: false,
    companion: 'internal',
    registrations: ['internal middy-post-invoke: INVOKE'],
    afterHooks: [],
  },
  {
    // An extension that is there for nothing but the signal.
    name: 'gate',
    runtimeClients: ['RIC 4'],
    layer: false,
    companion: 'embedded',
    registrations: ['internal middy-post-invoke: no events'],
    afterHooks: [],
  },
]

describe.each(shutdownCases)('shutdown hooks: $name', given => {
  const { runtimeClients, layer, companion, registrations, afterHooks } = given
  test.each(runtimeClients)(
    `run at SIGTERM, after which the process ends itself, ${SHUTDOWNS} times, on %s`,
    async runtimeClient => {
      const milliseconds: number[] = []
      for (let count = 0; count < SHUTDOWNS; count++) {
        const emulator = await startEmulator({
          ...{ runtimeClient, layer, handler: 'shutdown.handler' },
          environment: { POST_INVOKE_COMPANION: companion },
        })
        try {
          expect(await emulator.invoke()).toMatchObject({ statusCode: 200, body: { body: 'ok' } })
          await emulator.stop()
        } finally {
          emulator.kill()
        }
        expect(emulator.registrations).toEqual(registrations)
        // No SIGKILL to the runtime: it was gone by then.
        expect(emulator.shutdown).toEqual(['hook connection', 'hook second', 'hook first', ...afterHooks])
        expect(emulator.inits).toBe(1)
        milliseconds.push(emulator.millisecondsFromLastHookToEnd)
      }
      expect(milliseconds.filter(Number.isNaN)).toEqual([])
      milliseconds.sort((one, other) => one - other)
      console.log(
        `${runtimeClient}, ${companion}: from the last hook's end to the end of the process, median ${milliseconds[SHUTDOWNS >> 1]} ms, most ${milliseconds.at(-1)} ms, of ${SHUTDOWNS}`,
      )
    },
  )
})

describe.each(['RIC 4', 'RIC 3'] as const)('the processes in the environment: %s', runtimeClient => {
  const programsAfter = async (options: Partial<Parameters<typeof startEmulator>[0]>, events: object[]) => {
    const emulator = await startEmulator({ runtimeClient, ...options })
    try {
      for (const event of events) expect(await emulator.invoke(event)).toMatchObject({ statusCode: 200 })
      return emulator.programs
    } finally {
      emulator.kill()
    }
  }

  test('with the layer: the function and one bash', async () => {
    expect(await programsAfter({ layer: true }, [{}, {}, {}])).toEqual(['bash', 'node'])
  })

  test('with the layer and handed-off work: one Node.js more, for all of it', async () => {
    const options = { layer: true, taskRoot: handOffFixtures, environment: { POST_INVOKE_JOBS: 'jobs.mjs' } }
    const work = [['note']]
    expect(await programsAfter(options, [{}])).toEqual(['bash', 'node'])
    expect(await programsAfter(options, [{ work }, { work }, { work }])).toEqual(['bash', 'node', 'node'])
  })

  test('with the internal extension: the function and one bash', async () => {
    const environment = { POST_INVOKE_COMPANION: 'internal' }
    expect(await programsAfter({ environment }, [{}, {}])).toEqual(['bash', 'node'])
  })
})

describe('Managed Instances, of which AWS_LAMBDA_INITIALIZATION_TYPE alone tells', () => {
  test('the layer registers for SHUTDOWN, and nothing is held', async () => {
    const environment = { AWS_LAMBDA_INITIALIZATION_TYPE: 'lambda-managed-instances' }
    const emulator = await startEmulator({ runtimeClient: 'RIC 4', layer: true, environment })
    try {
      for (let count = 0; count < 2; count++) expect(await emulator.invoke()).toMatchObject({ statusCode: 200 })
      await emulator.stop()
    } finally {
      emulator.kill()
    }
    expect(emulator.registrations).toEqual(['external post-invoke: SHUTDOWN'])
    expect(emulator.inits).toBe(1)
    expect(emulator.log).not.toContain('WARN_')
  })
})
