// docs/api.md is what `npm run docs` writes, everything public has a docstring, and the samples in them compile. Needs
// `npm run build`.
import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from '@jest/globals'
import { bin, copyOf, makeFolder, root, run, succeed } from './packed.ts'

const read = (path: string) => readFileSync(join(root, path), 'utf8')

describe('the API reference', () => {
  it('is what the docstrings say: otherwise run `npm run docs`', async () => {
    // Fails also where something public has no docstring, or is not exported.
    const page = await succeed(process.execPath, [join(root, 'scripts', 'api-reference.ts'), '--print'])
    expect(page).toBe(read('docs/api.md'))
  })

  it('has samples that compile', async () => {
    using folder = makeFolder()
    copyOf(folder.path, ['package.json', 'tsconfig.json', 'dist'])
    for (const name of ['shop.ts', 'jobs.ts']) cpSync(join(root, 'examples', 'readme', name), join(folder.path, name))
    writeFileSync(join(folder.path, 'globals.ts'), GLOBALS)
    const samples = Array.from(read('docs/api.md').matchAll(/^```ts\n(.*?)^```$/gms), ([, code = '']) => code).filter(
      code => !isSignature(code),
    )
    expect(samples.length).toBeGreaterThan(5)
    samples.forEach((code, index) => {
      // A module each, so that names are its own.
      writeFileSync(join(folder.path, `sample-${index + 1}.ts`), `${code}\nexport {}\n`)
    })
    const options = JSON.parse(read('tsconfig.json'))
    options.compilerOptions.noUnusedLocals = false
    options.compilerOptions.noUnusedParameters = false
    writeFileSync(join(folder.path, 'tsconfig.json'), JSON.stringify({ ...options, include: ['*.ts'] }))
    const { stdout } = await run(bin('tsc'), ['--pretty', 'false'], { cwd: folder.path })
    const atLine = (line: string) => line.replace(/^sample-(\d+)\.ts.*?: /, (_, number) => `${samples[number - 1]}\n`)
    expect(stdout.split('\n').filter(Boolean).map(atLine)).toEqual([])
  })
})

/** `name: type` and `type Name = …` are what the reference itself says; samples are sentences of the language. */
const isSignature = (code: string) => /^(type \w+|\w+: |function \w+<)/.test(code) && !code.includes('import ')

/** What samples leave out: what the function has anyway. */
const GLOBALS = `
import type { DurableExecutionHandler } from '@aws/durable-execution-sdk-js'
import type { Context } from 'middy-post-invoke'
import type { Sandbox } from 'middy-post-invoke/sandbox'
import type * as shop from './shop.ts'

declare global {
  const { placeOrder, analytics, audit, metrics, connect }: typeof shop
  const context: Context
  const handler: (event: { body: string }, context: Context) => Promise<{ statusCode: number }>
  const sandbox: Sandbox
  const durable: DurableExecutionHandler<unknown, unknown>
  const collector: URL
  const send: (options: { signal: AbortSignal }) => Promise<void>
  const keepForLater: () => void
}
`
