// examples/cdk: what `cdk synth` makes of it.
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from '@jest/globals'
import { bin, makeFolder, root, succeed } from '../package/packed.ts'
import { layer } from '../support/run.ts'
import { describeDeployment, expectOrders } from './deployment.ts'
import { lintTemplate, only, project, type Resource, type Template, TOOL_MS } from './project.ts'

const cdk = project('cdk')
const TEMPLATE = 'cdk.out/Orders.template.json'
let template: Template

beforeAll(async () => {
  rmSync(cdk.path('cdk.out'), { recursive: true, force: true })
  await cdk.succeed('cdk', ['synth', '--quiet', '--no-notices'], { CDK_DISABLE_CLI_TELEMETRY: 'true' })
  template = JSON.parse(readFileSync(cdk.path(TEMPLATE), 'utf8'))
}, TOOL_MS)

/** What the CDK would upload for a resource. */
const assetOf = ({ Metadata }: Resource) => cdk.path(join('cdk.out', Metadata?.['aws:asset:path'] as string))

describe('examples/cdk', () => {
  it(
    'makes a valid template',
    async () => {
      // The CDK names a dependency that another property implies.
      expect(await lintTemplate(cdk, TEMPLATE, 'W3005')).toBe('')
    },
    TOOL_MS,
  )

  it('publishes the layer of the package, and attaches it to the function', () => {
    const version = only(template, 'AWS::Lambda::LayerVersion')
    expect(readFileSync(assetOf(version)).equals(readFileSync(`${layer}.zip`))).toBe(true)
    const { Layers, Runtime } = only(template, 'AWS::Lambda::Function').Properties
    expect(Layers).toEqual([{ Ref: version.id }])
    expect(version.Properties.CompatibleRuntimes).toContain(Runtime)
  })

  it(
    'has the types that a CDK project gets',
    async () => {
      using folder = makeFolder()
      await succeed(bin('tsc'), ['--project', join(root, 'src/cdk'), '--outDir', folder.path], { timeout: TOOL_MS })
      const shape = (text: string) => text.replaceAll(/[\s;]+/g, ' ').trim()
      const made = readFileSync(join(folder.path, 'cdk/index.d.ts'), 'utf8')
      expect(shape(readFileSync(join(root, 'src/cdk/public.d.ts'), 'utf8'))).toBe(shape(made))
    },
    TOOL_MS,
  )

  it('does not attach the layer to an image, nor to another runtime', async () => {
    const script = `
      import { App, Stack } from 'aws-cdk-lib'
      import { Code, DockerImageCode, DockerImageFunction, Function, InlineCode, Runtime, RuntimeFamily } from 'aws-cdk-lib/aws-lambda'
      import { PostInvokeLayer } from 'middy-post-invoke/cdk'
      const stack = new Stack(new App(), 'Stack')
      const layer = new PostInvokeLayer(stack, 'Layer', { layerVersionName: 'mine' })
      const functions = {
        python: new Function(stack, 'Python', { runtime: Runtime.PYTHON_3_13, handler: 'a.b', code: Code.fromInline('1') }),
        node: new Function(stack, 'Node', { runtime: Runtime.NODEJS_24_X, handler: 'a.b', code: Code.fromInline('1') }),
        preview: new Function(stack, 'Preview', { runtime: new Runtime('nodejs26.x', RuntimeFamily.NODEJS), handler: 'a.b', code: Code.fromCfnParameters() }),
        image: new DockerImageFunction(stack, 'Image', { code: DockerImageCode.fromEcr({ repositoryName: 'x', repositoryArn: 'arn:aws:ecr:x:1:repository/x', grantPull() {}, repositoryUriForTagOrDigest: () => 'x', grant() {} }) }),
      }
      for (const [name, target] of Object.entries(functions)) {
        try { console.log(name, layer.attach(target) === layer) } catch (error) { console.log(name, 'throws') }
      }`
    const printed = await cdk.succeed('node', ['--preserve-symlinks', '--input-type=module', '--eval', script])
    expect(printed).toBe('python throws\nnode true\npreview true\nimage throws\n')
  })

  describeDeployment(
    () => {
      const deployed = only(template, 'AWS::Lambda::Function')
      return {
        code: assetOf(deployed),
        handler: deployed.Properties.Handler,
        timeout: deployed.Properties.Timeout,
        variables: deployed.Properties.Environment.Variables,
        layers: [assetOf(only(template, 'AWS::Lambda::LayerVersion'))],
      }
    },
    cdk.path('handler.ts'),
    expectOrders,
  )
})
