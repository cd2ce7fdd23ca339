// examples/nitro, built by Nitro itself: what a route gives to `event.waitUntil()` is done before the freeze, and is cut off by
// it in a function with the preset's own entry.
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { root } from '../package/packed.ts'
import { realClient } from '../support/require-runtime-clients.ts'
import { type CompanionName, eventually } from '../support/run.ts'
import { builtInClient, type RuntimeClient } from '../support/runtime-clients.ts'
import { startHeldRun } from './held-run.ts'
import { project, TOOL_MS } from './project.ts'

const TEST_MS = 60_000

const nitro = project('nitro')
const event = JSON.parse(readFileSync(join(root, 'examples', 'api-gateway', 'event.json'), 'utf8'))

/** The same routes in a project without our entry. */
let without: string
beforeAll(async () => {
  await nitro.npm('build')
  without = mkdtempSync(join(tmpdir(), 'post-invoke-nitro-'))
  for (const name of ['routes', 'package.json']) cpSync(nitro.path(name), join(without, name), { recursive: true })
  symlinkSync(nitro.path('node_modules'), join(without, 'node_modules'))
  writeFileSync(join(without, 'nitro.config.ts'), "export default { preset: 'aws-lambda', serverDir: '.' }")
  await nitro.succeed('nitro', ['build', '--dir', without])
}, TOOL_MS)
afterAll(() => rmSync(without, { recursive: true, force: true }))

/** Runs a build. */
const start = (folder: string, client: RuntimeClient, companion: CompanionName) =>
  startHeldRun({ client, companion, taskRoot: join(folder, '.output', 'server') })

describe.each<[string, RuntimeClient, CompanionName]>([
  ['built-in client, gate', builtInClient, 'gate'],
  ['built-in client, layer', builtInClient, 'layer'],
  ['RIC 3, internal', realClient('ric3'), 'internal'],
  ['RIC 4, gate', realClient('ric4'), 'gate'],
])('Nitro: %s', (_, client, companion) => {
  it(
    'is done after the answer and before the freeze',
    async () => {
      await using started = await start(nitro.path('.'), client, companion)
      const { run, open, ends, called } = started
      const { answered, released } = run.sandbox.send(event)
      expect((await answered).body()).toMatchObject({ statusCode: 201 }) // nothing has been answered by then
      await eventually(() => called().length > 0, 'the route has called')
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
  'is cut off by the freeze otherwise',
  async () => {
    await using started = await start(without, builtInClient, 'gate')
    const { run, ends } = started
    // Released, and nothing has been answered.
    expect(await run.sandbox.invoke(event)).toMatchObject({ kind: 'response', status: 'success' })
    expect(ends).toEqual([])
  },
  TEST_MS,
)
