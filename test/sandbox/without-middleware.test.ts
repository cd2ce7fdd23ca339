// What is called without postInvoke() must not have the environment held for invocations of which nobody tells anything.
import { describe, expect, it } from '@jest/globals'
import { type CompanionName, startRun } from '../support/run.ts'
import { builtInClient } from '../support/runtime-clients.ts'

/** Less than the two minutes after which the environment is released at last. */
const TEST_MS = 60_000

/** The built-in client, and one that tells nothing. */
const environments = {
  'a client that tells': {},
  'a client that tells nothing': { AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA: '1' },
}

describe.each(Object.entries(environments))('without postInvoke(), under %s', (_client, environment) => {
  describe.each<CompanionName>(['layer', 'internal'])('with the companion %s', companion => {
    it.each(['onShutdown', 'waitUntil'])(
      '%s() holds nothing',
      async call => {
        for (const atInit of [true, false]) {
          const run = await startRun({
            client: builtInClient,
            companion,
            handler: 'without-middleware.handler',
            environment: { ...environment, ...(atInit && { AT_INIT: call }) },
          })
          await using _sandbox = run.sandbox
          for (const event of [{}, { call }, {}]) {
            expect(await run.invoke(event)).toMatchObject({ status: 'success', payload: '"answer"' })
          }
        }
      },
      TEST_MS,
    )
  })
})
