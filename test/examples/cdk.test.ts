// examples/cdk: what `cdk synth` makes of it.
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from '@jest/globals'
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
