// What is in the tarball, and what the tools of the trade say of it.
import { cpSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { bin, makeFolder, type Packed, type PackedFile, pack, root, run, succeed } from './packed.ts'

const folder = makeFolder()
let tarball: string
let files: PackedFile[]
beforeAll(async () => {
  ;[{ tarball, files }] = (await pack(folder.path)) as [Packed]
  await succeed('tar', ['-xzf', tarball, '-C', folder.path])
})
afterAll(() => folder[Symbol.dispose]())

describe('the tarball', () => {
  it('contains what is expected, and nothing else', () => {
    const modules = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' }).filter(
      path => path.endsWith('.ts') && !path.endsWith('.d.ts') && !/^cli\b/.test(path), // the command line has no types
    )
    expect(files.map(({ path }) => path).sort()).toEqual(
      [
        'CHANGELOG.md',
        'LICENSE',
        'README.md',
        'llms.txt',
        'package.json',
        ...readdirSync(join(root, 'docs')).flatMap(name => (name === 'evidence' ? [] : `docs/${name}`)),
        ...['main', 'outputs', 'variables', 'versions'].map(name => `terraform/${name}.tf`),
        'dist/cdk/index.js',
        'dist/cli.js',
        'dist/cli/observer.js',
        'dist/cli/probe.js',
        'dist/cli/verify-function.js',
        'dist/handler.js',
        'dist/index.js',
        'dist/job-handler.js',
        'dist/hand-off/embedded.js',
        'dist/hand-off/index.js',
        'dist/layer.zip',
        'dist/layer/extensions/post-invoke',
        'dist/layer/post-invoke/command.cjs',
        'dist/layer/post-invoke/runner.cjs',
        'dist/layer/post-invoke/worker.cjs',
        'dist/metrics.js',
        'dist/preload.js',
        'dist/sandbox/index.js',
        'dist/sandbox/runtime-client.js',
        'dist/testing/index.js',
        ...modules.map(path => `dist/${path.replace(/\.ts$/, '.d.ts')}`),
      ].sort(),
    )
  })

  it('keeps the run bits of the layer’s script and the command line, and gives none to anything else', () => {
    expect(files.filter(({ mode }) => mode & 0o111)).toEqual([
      expect.objectContaining({ path: 'dist/cli.js', mode: 0o755 }),
      expect.objectContaining({ path: 'dist/layer/extensions/post-invoke', mode: 0o755 }),
    ])
  })

  it('has declarations that name no file which is not there', () => {
    const there = new Set(files.map(({ path }) => path))
    const declarations = [...there].filter(path => path.endsWith('.d.ts'))
    const missing: string[] = []
    for (const path of declarations) {
      const text = readFileSync(join(folder.path, 'package', path), 'utf8')
      for (const [, specifier = ''] of text.matchAll(/(?:from|import\()\s*['"](\.[^'"]+)['"]/g)) {
        const target = join(path, '..', specifier).replace(/\.(js|ts)$/, '.d.ts')
        if (!there.has(target)) missing.push(`${path}: ${specifier}`)
      }
    }
    expect(declarations.length).toBeGreaterThan(10)
    expect(missing).toEqual([])
  })

  it('has an entry for every path in `exports`', () => {
    const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
    const paths = Object.values<any>(exports).flatMap(entry =>
      typeof entry === 'string' ? entry : Object.values(entry),
    )
    expect(paths).toHaveLength(22)
    for (const path of paths) expect(files.map(file => `./${file.path}`)).toContain(path)
  })

  it('satisfies publint', async () => {
    const { code, stdout, stderr } = await run(bin('publint'), ['run', tarball, '--strict'])
    expect([code, stdout + stderr]).toEqual([0, expect.stringContaining('All good!')])
  })

  it('satisfies attw', async () => {
    // layer.zip is data: there is nothing in it to have types.
    const { code, stdout } = await run(bin('attw'), [
      ...[tarball, '--profile', 'esm-only', '--no-definitely-typed', '--format', 'json'],
      ...['--exclude-entrypoints', './layer.zip'],
    ])
    const { analysis } = JSON.parse(stdout)
    expect(code).toBe(0)
    expect(Object.keys(analysis.entrypoints).sort()).toEqual([
      '.',
      './cdk',
      './hand-off',
      './hand-off/embedded',
      './handler',
      './job-handler',
      './metrics',
      './package.json',
      './preload',
      './sandbox',
      './testing',
    ])
    const kinds = (analysis.problems as any[])
      .filter(({ resolutionKind }) => resolutionKind === 'node16-esm' || resolutionKind === 'bundler')
      .map(({ kind, entrypoint }) => `${entrypoint}: ${kind}`)
    expect(kinds).toEqual([])
  })

  it('would not satisfy them with an entry that is not there', async () => {
    using broken = makeFolder()
    cpSync(join(folder.path, 'package'), join(broken.path, 'package'), { recursive: true })
    rmSync(join(broken.path, 'package', 'dist', 'index.d.ts'))
    const brokenTarball = join(broken.path, 'broken.tgz')
    await succeed('tar', ['-czf', brokenTarball, '-C', broken.path, 'package'])
    expect((await run(bin('publint'), ['run', brokenTarball, '--strict'])).code).toBe(1)
    const attw = await run(bin('attw'), [brokenTarball, '--profile', 'esm-only', '--no-definitely-typed'])
    expect(attw.code).toBe(1)
  })
})
