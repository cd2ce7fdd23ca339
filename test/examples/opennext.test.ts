// examples/opennext, bundled with the parts of OpenNext on AWS that run in a function and with Next's own `after()`: what is
// given to `waitUntil` holds the answer up without it, and comes behind the answer with it. See test/fixtures/opennext.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { build } from 'esbuild'
import { root } from '../package/packed.ts'
import { realClient } from '../support/require-runtime-clients.ts'
import { eventually } from '../support/run.ts'
import { builtInClient } from '../support/runtime-clients.ts'
import { startHeldRun } from './held-run.ts'
import { project } from './project.ts'

const TEST_MS = 60_000

const event = {
  version: '2.0',
  rawPath: '/',
  rawQueryString: '',
  headers: {},
  requestContext: { http: { method: 'GET' } },
}

/** Of a built application, as much as OpenNext reads when it is loaded. */
const built = {
  'required-server-files.json': '{"config":{}}',
  BUILD_ID: 'build',
  'routes-manifest.json': '{"headers":[]}',
  'server/pages-manifest.json': '{}',
  'server/middleware-manifest.json': '{}',
}

let folder: string
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'post-invoke-opennext-'))
  for (const [name, text] of Object.entries(built)) {
    const file = join(folder, '.next', name)
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, text)
  }
  await build({
    entryPoints: [join(root, 'test/fixtures/opennext/index.mjs')],
    nodePaths: [project('opennext').path('node_modules')],
    outfile: join(folder, 'index.mjs'),
    bundle: true,
    platform: 'node',
    format: 'esm',
    logLevel: 'silent',
    // As OpenNext's own build has it.
    banner: {
      js: `import { createRequire } from 'node:module'
        const require = createRequire(import.meta.url), __dirname = import.meta.dirname`,
    },
  })
}, TEST_MS)
afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe.each([
  ['built-in client', builtInClient, 'gate'],
  ['built-in client', builtInClient, 'layer'],
  ['RIC 3', realClient('ric3'), 'internal'],
  ['RIC 4', realClient('ric4'), 'gate'],
] as const)('OpenNext: %s, %#', (_, client, companion) => {
  const start = (handler: string) => startHeldRun({ client, companion, taskRoot: folder, handler: `index.${handler}` })

  it.each(['handler', 'streamed'])(
    'answers first: %s',
    async handler => {
      await using started = await start(handler)
      const { run, open, ends, called } = started
      const { answered, released } = run.sandbox.send(event)
      expect((await answered).payload).toContain('tea') // nothing has been answered by then
      await eventually(() => called().length === 2, 'after() and the revalidation have called')
      expect(called()).toEqual(['POST /after', 'POST /revalidate'])
      open()
      const { status, requestId } = await released
      expect(status).toBe('success')
      expect(ends).toHaveLength(2)
      for (const end of ends) expect(end).toBeLessThan(run.time('released', requestId))
      expect(run.logged('')).toEqual([])
    },
    TEST_MS,
  )

  it(
    'has the answer wait otherwise, where that is not streamed',
    async () => {
      await using started = await start('otherwise')
      const { run, open, ends, called } = started
      const { released } = run.sandbox.send(event)
      await eventually(() => called().length === 2, 'after() and the revalidation have called')
      open()
      const { requestId, payload } = await released
      expect(payload).toContain('tea')
      expect(ends).toHaveLength(2)
      for (const end of ends) expect(end).toBeLessThan(run.time('response', requestId))
    },
    TEST_MS,
  )
})
