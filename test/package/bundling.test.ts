// The package in a bundle of the user's: functions are mostly deployed as one file, made by esbuild.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from '@jest/globals'
import { build, type Format } from 'esbuild'
import { makeFolder, root, succeed } from './packed.ts'

const dist = (name: string) => join(root, 'dist', name)

const bundle = async (entry: string, format: Format, outfile: string) => {
  const { errors, warnings } = await build({
    entryPoints: [entry],
    outfile,
    format,
    bundle: true,
    platform: 'node',
    target: 'node22',
    logLevel: 'silent',
  })
  return [...errors, ...warnings].map(({ text }) => text)
}

const HAND_OFF = `
  import { createServer } from 'node:http'
  import { handOff } from ${JSON.stringify(dist('hand-off/index.js'))}
  import ${JSON.stringify(dist('hand-off/embedded.js'))}
  import { withPostInvoke } from ${JSON.stringify(dist('handler.js'))}
  const server = createServer((request, response) => {
    console.log(request.method + ' ' + request.url)
    response.end()
    server.close()
    server.closeAllConnections()
  }).listen(0, '127.0.0.1', () => {
    const url = 'http://127.0.0.1:' + server.address().port + '/orders'
    withPostInvoke(async () => handOff({ url, body: 'tea' }))({}, { awsRequestId: 'r1' })
    setTimeout(() => process.exit(1), 10_000).unref()
  })`

const ERRORS = `
  import { PostInvokeError } from ${JSON.stringify(dist('index.js'))}
  import { handOff } from ${JSON.stringify(dist('hand-off/index.js'))}
  try {
    handOff('job')
  } catch (error) {
    console.log(error instanceof PostInvokeError, error.code)
  }`

describe.each([
  ['an ES module', 'esm', 'mjs'],
  ['a CommonJS module', 'cjs', 'cjs'],
] as const)('bundled as %s', (_, format, ending) => {
  /** A function of this text, as it stands and bundled. */
  const bundleOf = async (folder: string, text: string) => {
    const [entry, outfile] = [join(folder, 'entry.mjs'), join(folder, `out.${ending}`)] as const
    writeFileSync(entry, text)
    await bundle(entry, format, outfile)
    return { entry, outfile }
  }

  it.each([
    'index',
    'handler',
    'hand-off/index',
    'hand-off/embedded',
    'metrics',
    'job-handler',
    'preload',
    'testing/index',
  ])('has all that %s needs', async name => {
    using folder = makeFolder()
    expect(await bundle(dist(`${name}.js`), format, join(folder.path, `out.${ending}`))).toEqual([])
  })

  it('has one class of errors for all of its entries', async () => {
    using folder = makeFolder()
    const { entry, outfile } = await bundleOf(folder.path, ERRORS)
    for (const file of [entry, outfile]) {
      expect(await succeed(process.execPath, [file], { cwd: folder.path })).toBe('true ERR_NO_INVOCATION\n')
    }
  })

  it('runs handed-off work in the function itself', async () => {
    using folder = makeFolder()
    const { outfile } = await bundleOf(folder.path, HAND_OFF)
    const env = { PATH: process.env.PATH, POST_INVOKE_SPOOL: join(folder.path, 'spool') }
    expect(await succeed(process.execPath, [outfile], { cwd: folder.path, env, timeout: 20_000 })).toBe(
      'POST /orders\n',
    )
  })
})
