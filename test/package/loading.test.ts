// What importing the package costs a cold start: the built-in modules that it has Node load. Middy's own @middy/util loads
// node:http, node:http2 and the built-in undici, so ours is looked at twice: beside real Middy, where nothing may be added,
// and alone, where nothing may be there.
import { execFileSync } from 'node:child_process'
import { closeSync, constants, copyFileSync, mkdirSync, openSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { copyOf, makeFolder, root, succeed } from './packed.ts'

const real = makeFolder()
const alone = makeFolder()
const requests: string[] = []
const layers: number[] = []
// Registers whoever asks, and has no event for them.
const extensionsApi = createServer((request, response) => {
  requests.push(`${request.method} ${request.url}`)
  if (request.url?.endsWith('/register')) response.setHeader('Lambda-Extension-Identifier', 'an-identifier').end('{}')
})

beforeAll(async () => {
  copyOf(real.path, [])
  for (const { path } of [real, alone]) {
    copyFileSync(join(root, 'dist', 'index.js'), join(path, 'index.js'))
    writeFileSync(join(path, 'package.json'), JSON.stringify({ type: 'module' }))
    mkdirSync(join(path, 'hand-off'))
    copyFileSync(join(root, 'dist', 'hand-off', 'index.js'), join(path, 'hand-off', 'index.js'))
  }
  copyFileSync(join(root, 'dist', 'handler.js'), join(alone.path, 'handler.mjs'))
  await new Promise<void>(resolve => extensionsApi.listen(0, '127.0.0.1', resolve))
  for (const { path } of [real, alone]) layers.push(standForLayer(path))
})
afterAll(() => {
  for (const fd of layers) closeSync(fd)
  extensionsApi.closeAllConnections()
  extensionsApi.close()
  for (const folder of [real, alone]) folder[Symbol.dispose]()
})

/** The layer's companion is there where somebody reads its pipe. */
const standForLayer = (folder: string): number => {
  const path = join(folder, `.middy-post-invoke-1-${(extensionsApi.address() as AddressInfo).port}`)
  execFileSync('mkfifo', ['-m', '600', path])
  return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
}

type Loaded = { modules: string[]; kind: string }

/** The built-in modules in a process that has loaded a function, at the end of its init. */
const load = async (folder: string, body: string, variables: Record<string, string> = {}): Promise<Loaded> => {
  // In a file: what --eval evaluates finds the names of built-in modules as globals, and that loads more of them.
  writeFileSync(
    join(folder, 'function.mjs'),
    `const lines = []
     console.debug = line => lines.push(line)
     ${body}
     const modules = process.moduleLoadList.filter(name => name.startsWith('NativeModule ')).map(name => name.slice(13))
     process.stdout.write(JSON.stringify({ modules, kind: String(lines[0]).split('companion: ')[1] }))
     setTimeout(() => process.exit(), 100)`,
  )
  const env = {
    PATH: process.env.PATH,
    AWS_LAMBDA_RUNTIME_API: `127.0.0.1:${(extensionsApi.address() as AddressInfo).port}`,
    POST_INVOKE_LOG_LEVEL: 'DEBUG',
    POST_INVOKE_FOLDER: folder,
    ...variables,
  }
  return JSON.parse(await succeed(process.execPath, [join(folder, 'function.mjs')], { env }))
}

const PLAIN_MIDDY = `const { default: middy } = await import('@middy/core'); middy().handler(async () => {});`
const OURS = `const { default: postInvoke } = await import('./index.js'); const middleware = postInvoke();`
const RIC_4 = 'globalThis.awslambda = { streamifyResponse() {} };'

const isHttp = (name: string) => /^(https?2?|_http_.*|internal\/http.*|.*undici.*)$/.test(name)

const companions = [
  ['the layer', 'layer', 'layer', ''],
  ['the gate', 'gate', 'embedded', RIC_4],
  ['no companion', 'none', 'off', ''],
] as const

describe('alone, the package', () => {
  it.each(companions)('with %s loads no HTTP client at all', async (_, kind, companion, globals) => {
    const loaded = await load(alone.path, globals + OURS, { POST_INVOKE_COMPANION: companion })
    expect(loaded.kind).toBe(kind)
    expect(loaded.modules.filter(isHttp)).toEqual([])
  })

  it.each(companions)('with %s does so for handlers without Middy, too', async (_, kind, companion, globals) => {
    const wrap = `const { withPostInvoke } = await import('./handler.mjs'); withPostInvoke(async () => {});`
    const loaded = await load(alone.path, globals + wrap, { POST_INVOKE_COMPANION: companion })
    expect(loaded.kind).toBe(kind)
    expect(loaded.modules.filter(isHttp)).toEqual([])
  })

  it.each([
    ['internal', 'internal'],
    ['embedded, of a client that has no gate', 'embedded'],
  ])('with the internal extension (%s) loads none either', async (_, companion) => {
    requests.length = 0
    const loaded = await load(alone.path, OURS, { POST_INVOKE_COMPANION: companion })
    expect(loaded.kind).toBe('internal')
    expect(loaded.modules.filter(isHttp)).toEqual([])
    expect(requests[0]).toBe('POST /2020-01-01/extension/register')
  })

  it('loads none with hand-off either', async () => {
    const { modules } = await load(
      alone.path,
      `${OURS}const { default: withHandOff } = await import('./hand-off/index.js'); withHandOff();`,
      { POST_INVOKE_COMPANION: 'layer' },
    )
    expect(modules.filter(isHttp)).toEqual([])
  })

  it('with a queue for hand-off fails at init where there is no client for it, and says why', async () => {
    const loading = load(alone.path, `await import('./hand-off/index.js')`, {
      LAMBDA_TASK_ROOT: alone.path, // and not here, where the client is a development dependency
      POST_INVOKE_OVERFLOW_QUEUE_URL: 'https://sqs.eu-central-1.amazonaws.com/123456789012/overflow',
    })
    await expect(loading).rejects.toThrow(
      /Expected the package @aws-sdk\/client-sqs in .+ because POST_INVOKE_OVERFLOW_QUEUE_URL is set\./,
    )
  })

  it('would show them: an ESM import of node:http loads undici', async () => {
    const loaded = await load(alone.path, `await import('node:http')`)
    expect(loaded.modules.filter(isHttp)).toContain('http')
    expect(loaded.modules.filter(name => name.includes('undici'))).not.toEqual([])
  })
})

describe('beside real Middy, the package', () => {
  it.each(companions)('with %s adds no HTTP client to what it loads', async (_, kind, companion, globals) => {
    const baseline = await load(real.path, PLAIN_MIDDY)
    const loaded = await load(
      real.path,
      `${globals}${PLAIN_MIDDY}${OURS}middy().use(middleware).handler(async () => {})`,
      {
        POST_INVOKE_COMPANION: companion,
      },
    )
    expect(loaded.kind).toBe(kind)
    const added = loaded.modules.filter(name => !baseline.modules.includes(name))
    expect(added.filter(isHttp)).toEqual([])
  })
})
