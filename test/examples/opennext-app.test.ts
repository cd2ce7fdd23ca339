// An application of Next, built by Next and OpenNext with the wrappers of examples/opennext: what its route gives to `after()`
// comes behind the answer.
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { root } from '../package/packed.ts'
import { realClient } from '../support/require-runtime-clients.ts'
import { type CompanionName, eventually } from '../support/run.ts'
import { builtInClient, type RuntimeClient } from '../support/runtime-clients.ts'
import { startHeldRun } from './held-run.ts'
import { project } from './project.ts'

const TEST_MS = 60_000
/** It takes half a minute where nothing else runs. */
const BUILD_MS = 600_000

const event = JSON.parse(readFileSync(join(root, 'examples', 'api-gateway', 'event.json'), 'utf8'))

/**
 * Its dependencies are hard links where they can be: Next takes none that a symbolic link leads to out of the application. Without
 * tsconfig.json, which has Next look for TypeScript.
 */
let folder: string
beforeAll(async () => {
  const opennext = project('opennext')
  folder = mkdtempSync(join(tmpdir(), 'post-invoke-opennext-'))
  cpSync(join(root, 'test/fixtures/opennext-app'), folder, { recursive: true })
  cpSync(opennext.path('open-next.config.ts'), join(folder, 'example.config.ts'))
  for (const name of ['wrapper.ts', 'package-lock.json']) cpSync(opennext.path(name), join(folder, name))
  const from = opennext.path('node_modules')
  const to = join(folder, 'node_modules')
  await opennext.succeed('sh', ['-c', `cp -al "$0" "$1" || { rm -rf "$1"; cp -a "$0" "$1"; }`, from, to])
  rmSync(join(to, 'middy-post-invoke'))
  symlinkSync(root, join(to, 'middy-post-invoke'))
  // Its function for images wants a dependency of its own from a registry, and is built without.
  const environment = { NEXT_TELEMETRY_DISABLED: '1', npm_config_offline: 'true' }
  await opennext.succeed(
    'sh',
    ['-c', 'cd "$0" && open-next build --config-path open-next.config.mjs', folder],
    environment,
    BUILD_MS,
  )
}, BUILD_MS)
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const start = (wrapper: string, client: RuntimeClient, companion: CompanionName) =>
  startHeldRun({
    ...{ client, companion },
    taskRoot: join(folder, '.open-next/server-functions/default'),
    environment: { WRAPPER: wrapper },
  })

describe.each<[string, RuntimeClient, CompanionName]>([
  ['built-in client, gate', builtInClient, 'gate'],
  ['RIC 3, internal', realClient('ric3'), 'internal'],
  ['RIC 4, layer', realClient('ric4'), 'layer'],
])('an application of Next: %s', (_, client, companion) => {
  it.each([
    ['streamed, as the example has it', 'example'],
    ['buffered', 'buffered'],
  ])(
    'answers first: %s',
    async (_, wrapper) => {
      await using started = await start(wrapper, client, companion)
      const { run, open, ends, called } = started
      const { answered, released } = run.sandbox.send(event)
      expect((await answered).payload).toContain('tea') // nothing has been answered by then
      await eventually(() => called().length > 0, 'after() has called')
      open()
      const { status, requestId } = await released
      expect({ status, called: called() }).toEqual({ status: 'success', called: ['POST /audit'] })
      expect(ends).toHaveLength(1)
      expect(ends[0]).toBeLessThan(run.time('released', requestId))
      expect(run.logged('')).toEqual([])
    },
    TEST_MS,
  )
})

it(
  'has the answer wait otherwise, where that is not streamed',
  async () => {
    await using started = await start('without', builtInClient, 'gate')
    const { run, open, ends, called } = started
    const { released } = run.sandbox.send(event)
    await eventually(() => called().length > 0, 'after() has called')
    open()
    const { requestId, payload } = await released
    expect(payload).toContain('tea')
    expect(ends).toHaveLength(1)
    expect(ends[0]).toBeLessThan(run.time('response', requestId))
  },
  TEST_MS,
)
