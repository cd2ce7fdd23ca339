// What `post-invoke layer` and `post-invoke template` write, read by the tools that it is written for.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from '@jest/globals'
import { transform } from 'esbuild'
import { version } from '../../src/version.ts'
import { run } from '../package/packed.ts'
import { postInvoke, useFolders } from '../support/command-line.ts'
import { pythonTools } from './project.ts'

const makeFolder = useFolders()
const files = { 'package.json': '{}', 'src/app.ts': '', 'index.mjs': '' }

const succeed = async (folder: string, args: readonly string[]): Promise<string> => {
  const { code, stdout, stderr } = await postInvoke(folder, args)
  if (code !== 0) throw new Error(`post-invoke ${args.join(' ')} ended with ${code}: ${stderr}`)
  return stdout
}

const python = (folder: string, args: readonly string[]) =>
  run('python3', args, { cwd: folder, env: { ...process.env, PYTHONPATH: pythonTools() } })

const snippets = async (folder: string) => JSON.parse(await succeed(folder, ['layer', '--json'])).snippets

it.each([
  ['TypeScript and the layer', ['src/app.ts']],
  ['JavaScript and the layer', ['index.mjs', '--runtime', 'nodejs22.x']],
  ['no layer', ['src/app.ts', '--embedded', '--timeout', '900']],
])('the template with %s satisfies cfn-lint', async (_, args) => {
  const folder = makeFolder(files)
  await succeed(folder, ['layer'])
  await succeed(folder, ['template', ...args])
  expect(await python(folder, [join(pythonTools(), 'bin', 'cfn-lint'), 'template.yaml'])).toEqual({
    code: 0,
    stdout: '',
    stderr: '',
  })
})

it('the template of functions to verify satisfies cfn-lint, and names what lies beside it', async () => {
  const folder = makeFolder()
  await succeed(folder, ['template', '--verify'])
  const kit = join(folder, 'post-invoke-verify')
  const lint = [join(pythonTools(), 'bin', 'cfn-lint'), 'template.yaml']
  expect(await python(kit, lint)).toEqual({ code: 0, stdout: '', stderr: '' })
  const text = readFileSync(join(kit, 'template.yaml'), 'utf8')
  const paths = [...text.matchAll(/(?:CodeUri|ContentUri): (\S+)/g)].map(([, path = '']) => join(kit, path))
  expect(paths.map(path => existsSync(path))).toEqual([true, true])
  expect(text.match(/FunctionName: post-invoke-verify-nodejs2[24]-(embedded|layer)/g)).toHaveLength(4)
})

it('would not satisfy it with a resource that there is not', async () => {
  const folder = makeFolder(files)
  const text = await succeed(folder, ['template', 'index.mjs', '--out', '-'])
  const broken = makeFolder({ 'template.yaml': text.replace('!GetAtt Function', '!GetAtt Nothing') })
  expect((await python(broken, [join(pythonTools(), 'bin', 'cfn-lint'), 'template.yaml'])).code).not.toBe(0)
})

it('the lines for Terraform are HCL', async () => {
  const folder = makeFolder(files)
  const { terraform } = await snippets(folder)
  const script = 'import hcl2, json, sys; print(json.dumps(hcl2.loads(sys.argv[1])))'
  const { code, stdout, stderr } = await python(folder, ['-c', script, terraform])
  expect([code, stderr]).toEqual([0, ''])
  expect(stdout).toContain('post-invoke-layer.zip')
})

it.each(['sst', 'pulumi'])('the lines for %s publish the layer, and name it', async tool => {
  const folder = makeFolder(files)
  const text: string = (await snippets(folder))[tool]
  const { code } = await transform(text.replaceAll(/^import .*$/gm, ''), { loader: 'ts' })
  const made: Record<string, unknown>[] = []
  class FileArchive {
    path: string
    constructor(path: string) {
      this.path = path
    }
  }
  class LayerVersion {
    arn = 'the-arn'
    constructor(_name: string, given: Record<string, unknown>) {
      made.push(given)
    }
  }
  class SstFunction extends LayerVersion {}
  const asset = { FileArchive }
  const run = new Function(
    'aws',
    'pulumi',
    '$util',
    'sst',
    `${code}; return typeof layers === 'undefined' ? undefined : layers`,
  )
  const layers =
    run({ lambda: { LayerVersion } }, { asset }, { asset }, { aws: { Function: SstFunction } }) ?? made[1]?.layers
  expect(layers).toEqual(['the-arn'])
  expect(made[0]).toEqual({
    layerName: 'middy-post-invoke',
    description: `middy-post-invoke ${version}`,
    code: new FileArchive('post-invoke-layer.zip'),
    compatibleRuntimes: ['nodejs22.x', 'nodejs24.x'],
    compatibleArchitectures: ['x86_64', 'arm64'],
  })
})

it('the line for a container image is one of a Dockerfile', async () => {
  const folder = makeFolder(files)
  const { container } = await snippets(folder)
  const dockerfile = makeFolder({ Dockerfile: `FROM public.ecr.aws/lambda/nodejs:24\n${container}\n` })
  const { code, stdout } = await run(join(pythonTools(), 'bin', 'hadolint'), ['Dockerfile'], { cwd: dockerfile })
  expect([code, stdout]).toEqual([0, ''])
})

it('the commands for the AWS CLI are those of a shell', async () => {
  const folder = makeFolder(files)
  const { 'aws-cli': commands } = await snippets(folder)
  const script = `aws() { printf '%s\\n' "$@" >> calls; echo arn:the-layer; }\n${commands}\n`
  expect(await run('bash', ['-c', script], { cwd: folder })).toMatchObject({ code: 0, stderr: '' })
  const words = readFileSync(join(folder, 'calls'), 'utf8').split('\n')
  expect(words).toEqual(
    expect.arrayContaining(['publish-layer-version', 'fileb://post-invoke-layer.zip', `middy-post-invoke ${version}`]),
  )
  expect(words.slice(-3)).toEqual(['--layers', 'arn:the-layer', ''])
})
