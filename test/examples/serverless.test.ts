// examples/serverless: what `serverless package` makes of it. The framework asks CloudFormation whether it has published
// this layer before; a server of ours answers that there is no such stack yet.
import { once } from 'node:events'
import { readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from '@jest/globals'
import { layer } from '../support/run.ts'
import { describeDeployment, expectOrders } from './deployment.ts'
import { lintTemplate, only, project, type Template, TOOL_MS } from './project.ts'

const serverless = project('serverless')
const TEMPLATE = '.serverless/cloudformation-template-update-stack.json'
const ANALYTICS_URL = 'https://analytics.example.com/orders'
let template: Template
let printed: string

const localAws = fileURLToPath(new URL('../fixtures/examples/local-aws.cjs', import.meta.url))

const packageService = async () => {
  const requested: string[] = []
  const cloudFormation = createServer(({ headers }, response) => {
    requested.push(String(headers.host))
    const error =
      '<Type>Sender</Type><Code>ValidationError</Code><Message>Stack with id orders-dev does not exist</Message>'
    response.writeHead(400, { 'content-type': 'text/xml' })
    response.end(`<ErrorResponse><Error>${error}</Error></ErrorResponse>`)
  })
  await once(cloudFormation.listen(0, '127.0.0.1'), 'listening')
  try {
    printed = await serverless.succeed('serverless', ['package', '--param', `analyticsUrl=${ANALYTICS_URL}`], {
      NODE_OPTIONS: `--require ${localAws}`,
      LOCAL_AWS_PORT: String((cloudFormation.address() as AddressInfo).port),
      AWS_ACCESS_KEY_ID: 'none',
      AWS_SECRET_ACCESS_KEY: 'none',
      SLS_TELEMETRY_DISABLED: '1',
      SLS_NOTIFICATIONS_MODE: 'off',
    })
  } finally {
    cloudFormation.close()
  }
  expect(requested).toEqual(['cloudformation.us-east-1.amazonaws.com'])
}

beforeAll(async () => {
  rmSync(serverless.path('.serverless'), { recursive: true, force: true })
  await packageService()
  template = JSON.parse(readFileSync(serverless.path(TEMPLATE), 'utf8'))
}, TOOL_MS)

/** What the framework would upload under a name: what it has packaged, or the layer's zip, which stays where it is. */
const artifact = (key: string) => {
  const { service } = JSON.parse(readFileSync(serverless.path('.serverless/serverless-state.json'), 'utf8'))
  const zip: string = service.initialServerlessConfig.layers.postInvoke.package.artifact
  return serverless.path(basename(key) === basename(zip) ? zip : join('.serverless', basename(key)))
}

describe('examples/serverless', () => {
  it('is packaged without a warning', () => {
    expect(printed).not.toMatch(/warning|deprecat/i)
  })

  it(
    'makes a valid template',
    async () => {
      // The framework names a dependency that another property implies.
      expect(await lintTemplate(serverless, TEMPLATE, 'W3005')).toBe('')
    },
    TOOL_MS,
  )

  it('publishes the layer of the package, and attaches it to the function', () => {
    const version = only(template, 'AWS::Lambda::LayerVersion')
    expect(readFileSync(artifact(version.Properties.Content.S3Key)).equals(readFileSync(`${layer}.zip`))).toBe(true)
    const { Layers, Runtime, Environment } = only(template, 'AWS::Lambda::Function').Properties
    expect(Layers).toEqual([{ Ref: version.id }])
    expect(version.Properties.CompatibleRuntimes).toContain(Runtime)
    expect(Environment.Variables).toEqual({ ANALYTICS_URL })
  })

  describeDeployment(
    () => {
      const { Properties } = only(template, 'AWS::Lambda::Function')
      return {
        code: artifact(Properties.Code.S3Key),
        handler: Properties.Handler,
        timeout: Properties.Timeout,
        variables: Properties.Environment.Variables,
        layers: [artifact(only(template, 'AWS::Lambda::LayerVersion').Properties.Content.S3Key)],
      }
    },
    serverless.path('handler.ts'),
    expectOrders,
  )
})
