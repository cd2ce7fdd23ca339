// `post-invoke invoke --runtime`: a handler with AWS's own clients in place of the sandbox's.
import { fileURLToPath } from 'node:url'
import { expect, it } from '@jest/globals'
import { postInvoke, root } from '../support/command-line.ts'
import { realClient } from '../support/require-runtime-clients.ts'

const example = fileURLToPath(new URL('../../examples/api-gateway/handler.ts', import.meta.url))
const event = fileURLToPath(new URL('../../examples/api-gateway/event.json', import.meta.url))
const { POST_INVOKE_TEST_RIC3 = '', POST_INVOKE_TEST_RIC4 = '' } = process.env

it.each([
  ['ric3', POST_INVOKE_TEST_RIC3, '--embedded', 'internal'],
  ['ric3', POST_INVOKE_TEST_RIC3, '--layer', 'layer'],
  ['ric4', POST_INVOKE_TEST_RIC4, '--embedded', 'gate'],
  ['ric4', POST_INVOKE_TEST_RIC4, '--layer', 'layer'],
] as const)('%s in %s with %s: the tasks of a TypeScript handler are seen', async (client, folder, companion, kind) => {
  const { node = process.execPath } = realClient(client).options('')
  const args = [
    'invoke',
    example,
    '--event',
    event,
    '--runtime',
    folder,
    companion,
    '--count',
    '2',
    '--freeze',
    '--json',
  ]
  const { stdout } = await postInvoke(root, args, { node })
  const run = JSON.parse(stdout)
  expect([run.failures, run.companion]).toEqual([[], kind])
  for (const { tasks } of run.invocations) expect(tasks.map(({ name }: any) => name)).toEqual(['audit', 'analytics'])
  expect(run.shutdown.hooks).toMatchObject([{ name: 'close orders', status: 'completed' }])
})
