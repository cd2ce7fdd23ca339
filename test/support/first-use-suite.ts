// What is called without postInvoke(), or first in the middle of an invocation, must not have the environment held for what
// nobody tells of.
import { describe, expect, it } from '@jest/globals'
import { type CompanionName, startRun } from './run.ts'
import type { RuntimeClient } from './runtime-clients.ts'

/** Less than the two minutes after which the environment is released at last. */
const TEST_MS = 60_000

export const describeFirstUse = (client: RuntimeClient, environment: Record<string, string> = {}) => {
  describe.each<CompanionName>(['layer', 'internal'])(`${client.name}, with the companion %s`, companion => {
    const start = (variables: Record<string, string> = {}) =>
      startRun({
        client,
        companion,
        handler: 'first-use.handler',
        environment: { ...environment, ...variables },
      })

    it.each(['onShutdown', 'waitUntil'])(
      '%s() without postInvoke() holds nothing, first called at init or in a handler',
      async call => {
        for (const variables of [{ AT_INIT: call }, {}]) {
          const run = await start(variables)
          await using _sandbox = run.sandbox
          for (const event of [{}, { call }, {}]) {
            expect(await run.invoke(event)).toMatchObject({ status: 'success', payload: '"answer"' })
          }
        }
      },
      TEST_MS,
    )

    it(
      'postInvoke() first called in a handler runs its tasks, and holds no longer than they take',
      async () => {
        const run = await start()
        await using _sandbox = run.sandbox
        for (const [index, event] of [{}, { call: 'postInvoke' }, { call: 'postInvoke' }].entries()) {
          expect(await run.invoke(event, `r${index}`)).toMatchObject({ status: 'success', payload: '"answer"' })
        }
        expect(run.marks().map(({ id }) => id)).toEqual(['r1', 'r2'])
      },
      TEST_MS,
    )
  })
}
