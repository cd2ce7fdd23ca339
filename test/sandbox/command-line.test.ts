// `post-invoke` as a process: its help, its errors and exit codes, the layer and the template.
import { existsSync, mkdirSync, readFileSync, statSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from '@jest/globals'
import { parse, parseDocument } from 'yaml'
import { version } from '../../src/version.ts'
import { postInvoke, root, useFolders } from '../support/command-line.ts'

const makeFolder = useFolders()
const ESCAPE = '\u001b'

describe('post-invoke', () => {
  it('prints its help and its version, and that is no failure', async () => {
    const folder = makeFolder()
    const help = await postInvoke(folder, ['--help'])
    expect(help).toEqual({ code: 0, stdout: expect.stringContaining('Usage: post-invoke'), stderr: '' })
    expect(help.stdout).toContain('Exit codes:')
    expect(await postInvoke(folder, ['--version'])).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' })
    for (const command of ['invoke', 'doctor', 'layer', 'template', 'verify']) {
      expect(help.stdout).toContain(`\n  ${command} `)
      const { code, stdout } = await postInvoke(folder, [command, '--help'])
      expect([code, stdout]).toEqual([0, expect.stringContaining(`Usage: post-invoke ${command}`)])
      expect(await postInvoke(folder, ['help', command])).toEqual({ code: 0, stdout, stderr: '' })
    }
    expect(await postInvoke(folder, ['help'])).toEqual(help)
    for (const option of ['-v', '-V']) {
      expect(await postInvoke(folder, [option])).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' })
    }
  })

  it.each([
    ['nothing', [], 'Usage: post-invoke'],
    ['an unknown command', ['lyer'], "unknown command 'lyer'\n(Did you mean layer?)"],
    ['an unknown option', ['layer', '--jsno'], "unknown option '--jsno'\n(Did you mean --json?)"],
    ['an unknown tool', ['layer', '--for', 'sma'], 'Allowed choices are aws-cli, sam,'],
    ['too many arguments', ['layer', 'x'], 'too many arguments'],
    ['a missing argument', ['invoke'], "missing required argument 'file'"],
    ['no handler', ['template'], 'Expected FILE, the handler: '],
    ['a handler that would not be used', ['template', 'a.ts', '--verify'], 'Expected no FILE with --verify'],
    ['a wrong number', ['template', 'a.ts', '--timeout', 'x'], 'Expected seconds, above 0 and at most 900.'],
    ['a file that is not there', ['template', 'a.ts'], 'got "a.ts". There is no such file in'],
    ['options that exclude each other', ['template', 'a.ts', '--layer', 'x', '--embedded'], 'cannot be used with'],
  ])('ends with 2 after %s, and says what is wrong', async (_, args, message) => {
    const { code, stdout, stderr } = await postInvoke(makeFolder(), args)
    expect([code, stdout, stderr]).toEqual([2, '', expect.stringContaining(message)])
  })

  it('writes colours only where they are seen, or asked for', async () => {
    const folder = makeFolder()
    const layer = async (env: NodeJS.ProcessEnv) => (await postInvoke(folder, ['layer'], { env })).stdout
    expect(await layer({})).not.toContain(ESCAPE)
    expect(await layer({ FORCE_COLOR: '1' })).toContain(ESCAPE)
    expect(await layer({ FORCE_COLOR: '0' })).not.toContain(ESCAPE)
    expect(await layer({ NO_COLOR: '1' })).not.toContain(ESCAPE)
  })
})

describe('post-invoke layer', () => {
  it('writes the zip, and says how to attach it with each tool', async () => {
    const folder = makeFolder()
    const { code, stdout } = await postInvoke(folder, ['layer'])
    expect(code).toBe(0)
    const zip = readFileSync(join(folder, 'post-invoke-layer.zip'))
    expect(zip.equals(readFileSync(join(root, 'dist', 'layer.zip')))).toBe(true)
    for (const part of [
      '--zip-file fileb://post-invoke-layer.zip',
      'ContentUri: post-invoke-layer.zip',
      "from 'middy-post-invoke/cdk'",
      "new $util.asset.FileArchive('post-invoke-layer.zip')",
      "new pulumi.asset.FileArchive('post-invoke-layer.zip')",
      'artifact: post-invoke-layer.zip',
      'filebase64sha256("post-invoke-layer.zip")',
      'COPY ',
    ]) {
      expect(stdout).toContain(part)
    }
  })

  it('writes a folder with the run bit, beside what is there', async () => {
    const folder = makeFolder({ 'opt/extensions/other': '' })
    const { code, stdout } = await postInvoke(folder, ['layer', '--out', 'opt', '--for', 'container'])
    expect([code, stdout]).toEqual([0, expect.stringContaining('COPY opt/ /opt/')])
    expect(statSync(join(folder, 'opt/extensions/post-invoke')).mode & 0o777).toBe(0o755)
    expect(existsSync(join(folder, 'opt/post-invoke/worker.cjs'))).toBe(true)
    expect(existsSync(join(folder, 'opt/extensions/other'))).toBe(true)
    expect(stdout).not.toContain('terraform')
  })

  it.each([['layer.zip'], ['opt']])(
    'names with --out %s only files that stay, and says how to make those that are not there',
    async out => {
      const folder = makeFolder()
      const { stdout } = await postInvoke(folder, ['layer', '--out', out])
      expect(stdout).not.toContain('dist/layer')
      const other = out === 'opt' ? 'post-invoke-layer.zip' : 'post-invoke-layer'
      expect(stdout).toContain(`# npx middy-post-invoke layer --out ${other} writes the layer for this.`)
      expect(stdout).not.toContain(`--out ${out} writes`)
      const notes = stdout.split('writes the layer for this.').length - 1
      expect(notes).toBe(out === 'opt' ? 6 : 1) // six tools take the zip, and one the folder; the CDK's takes neither
    },
  )

  it('writes again what it wrote, and makes folders on the way', async () => {
    const folder = makeFolder()
    for (const out of ['build/a b/layer.zip', 'build/layer']) {
      for (let time = 0; time < 2; time += 1) expect((await postInvoke(folder, ['layer', '-o', out])).code).toBe(0)
    }
  })

  it.each([
    ['x.zip', { 'x.zip/y': '' }, 'x.zip is a folder'],
    ['x', { x: '' }, 'x is a file without that ending'],
  ])('does not write %s over something else', async (out, files, message) => {
    const folder = makeFolder(files as Record<string, string>)
    const { code, stderr } = await postInvoke(folder, ['layer', '--out', out])
    expect([code, stderr]).toEqual([2, expect.stringContaining(message)])
  })

  it('prints JSON', async () => {
    const { stdout } = await postInvoke(makeFolder(), ['layer', '--json', '--for', 'sam'])
    const { snippets, ...rest } = JSON.parse(stdout)
    expect(rest).toEqual({
      version,
      kind: 'zip',
      path: 'post-invoke-layer.zip',
      sha256: expect.stringMatching(/^\w{64}$/),
    })
    expect(Object.keys(snippets)).toEqual(['sam'])
  })

  it('has snippets for SAM and Serverless that are YAML', async () => {
    const folder = makeFolder()
    const { stdout } = await postInvoke(folder, ['layer', '--json', '--out', 'a: b/#.zip'])
    const { snippets } = JSON.parse(stdout)
    const sam = parseDocument(snippets.sam, {
      customTags: [{ tag: '!Ref', resolve: (name: string) => ({ Ref: name }) }],
    })
    expect(sam.errors).toEqual([])
    expect(sam.toJS().Resources.PostInvokeLayer.Properties.ContentUri).toBe('a: b/#.zip')
    expect(parse(snippets.serverless).layers.postInvoke.package.artifact).toBe('a: b/#.zip')
  })

  it('says why it could not write', async () => {
    const folder = makeFolder({ file: '' })
    const { code, stderr } = await postInvoke(folder, ['layer', '--out', 'file/layer.zip'])
    expect([code, stderr]).toEqual([1, expect.stringMatching(/^post-invoke: E\w+: .*file/)])
  })
})

describe('post-invoke template', () => {
  const project = { 'package.json': '{}', 'src/app.ts': '', 'index.mjs': '', 'a.b.mjs': '' }
  const customTags = ['!Ref', '!GetAtt'].map(tag => ({ tag, resolve: (name: string) => ({ [tag.slice(1)]: name }) }))
  const read = (text: string) => parse(text, { customTags })

  it('writes a template that builds TypeScript, with the layer', async () => {
    const folder = makeFolder(project)
    await postInvoke(folder, ['layer'])
    const { code, stdout } = await postInvoke(folder, ['template', 'src/app.ts'])
    expect([code, stdout]).toEqual([0, expect.stringContaining('sam build && sam deploy')])
    const { Resources } = read(readFileSync(join(folder, 'template.yaml'), 'utf8'))
    expect(Resources.PostInvokeLayer.Properties.ContentUri).toBe('post-invoke-layer.zip')
    expect(Resources.Function).toMatchObject({
      Properties: {
        CodeUri: '.',
        Handler: 'app.handler',
        Runtime: 'nodejs24.x',
        Timeout: 30,
        Layers: [{ Ref: 'PostInvokeLayer' }],
      },
      Metadata: { BuildMethod: 'esbuild', BuildProperties: { EntryPoints: ['src/app.ts'], Format: 'esm' } },
    })
  })

  it('writes one for the preview of nodejs26.x', async () => {
    const folder = makeFolder(project)
    await postInvoke(folder, ['template', 'src/app.ts', '--runtime', 'nodejs26.x'])
    const { Resources } = read(readFileSync(join(folder, 'template.yaml'), 'utf8'))
    expect(Resources.Function.Properties.Runtime).toBe('nodejs26.x')
    expect(Resources.PostInvokeLayer.Properties.CompatibleRuntimes).toContain('nodejs26.x')
  })

  it('takes paths from where the template is, and the layer of this package where none was written', async () => {
    const folder = makeFolder(project)
    await postInvoke(folder, ['template', 'src/app.ts', '--out', 'src/template.yaml'])
    const { Resources } = read(readFileSync(join(folder, 'src/template.yaml'), 'utf8'))
    expect(Resources.Function.Properties.CodeUri).toBe('..')
    expect(existsSync(join(folder, 'src', Resources.PostInvokeLayer.Properties.ContentUri))).toBe(true)
  })

  it('leaves JavaScript as it is, and the layer out', async () => {
    const folder = makeFolder(project)
    const args = [
      'template',
      'index.api.create',
      '--embedded',
      '--runtime',
      'nodejs22.x',
      '--timeout',
      '5',
      '--out',
      '-',
    ]
    const { stdout } = await postInvoke(folder, args)
    expect(read(stdout).Resources).toEqual({
      Function: {
        Type: 'AWS::Serverless::Function',
        Properties: {
          ...{ CodeUri: '.', Handler: 'index.api.create', Runtime: 'nodejs22.x', Timeout: 5, MemorySize: 256 },
          FunctionUrlConfig: { AuthType: 'AWS_IAM' },
        },
      },
    })
  })

  it.each([
    [[], { AuthType: 'AWS_IAM' }, 'curl --aws-sigv4'],
    [['--url', 'public'], { AuthType: 'NONE' }, 'curl FUNCTION_URL'],
    [['--url', 'none'], undefined, 'sam deploy'],
  ])('has with %j a URL that can be called', async (args, config, words) => {
    const folder = makeFolder(project)
    const { code, stdout } = await postInvoke(folder, ['template', 'index.mjs', ...args])
    expect([code, stdout]).toEqual([0, expect.stringContaining(words)])
    const { Resources, Outputs } = read(readFileSync(join(folder, 'template.yaml'), 'utf8'))
    expect(Resources.Function.Properties.FunctionUrlConfig).toEqual(config)
    expect(Outputs.FunctionUrl).toEqual(config && { Value: { GetAtt: 'FunctionUrl.FunctionUrl' } })
  })

  it('names a layer that stays where it is: the one of the project, or one that is written beside it', async () => {
    const installed = makeFolder(project)
    mkdirSync(join(installed, 'node_modules'))
    symlinkSync(root, join(installed, 'node_modules', 'middy-post-invoke'))
    await postInvoke(installed, ['template', 'index.mjs'])
    const uri = (folder: string) =>
      read(readFileSync(join(folder, 'template.yaml'), 'utf8')).Resources.PostInvokeLayer.Properties.ContentUri
    expect(uri(installed)).toBe('node_modules/middy-post-invoke/dist/layer.zip')
    expect(existsSync(join(installed, 'post-invoke-layer.zip'))).toBe(false)

    const other = makeFolder(project) // as with npx, which has the package in a cache of its own
    const { stdout } = await postInvoke(other, ['template', 'index.mjs'])
    expect(stdout).toContain('post-invoke-layer.zip: the layer of middy-post-invoke')
    expect(uri(other)).toBe('post-invoke-layer.zip')
    expect(readFileSync(join(other, uri(other))).equals(readFileSync(join(root, 'dist', 'layer.zip')))).toBe(true)
  })

  it('does not replace a template unless it is told to', async () => {
    const folder = makeFolder({ ...project, 'template.yaml': 'mine' })
    const { code, stderr } = await postInvoke(folder, ['template', 'index.mjs'])
    expect([code, stderr]).toEqual([2, expect.stringContaining('replace it with --force')])
    expect(readFileSync(join(folder, 'template.yaml'), 'utf8')).toBe('mine')
    expect((await postInvoke(folder, ['template', 'index.mjs', '--force'])).code).toBe(0)
    expect(readFileSync(join(folder, 'template.yaml'), 'utf8')).toContain('Handler: index.handler')
  })

  it('refuses a file that Lambda cannot be told of', async () => {
    const { code, stderr } = await postInvoke(makeFolder(project), ['template', 'a.b.mjs'])
    expect([code, stderr]).toEqual([2, expect.stringContaining('no dot before its ending')])
  })
})
