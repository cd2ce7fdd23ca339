// Examples that are deployed by the SAM CLI: what `sam deploy` reads, once they are built.
import { beforeAll, describe, expect, it } from '@jest/globals'
import { type Deployment, describeDeployment, type Scenario } from './deployment.ts'
import { lintTemplate, only, project, readTemplate, type Template, TOOL_MS } from './project.ts'

export const describeSam = (
  name: string,
  scenario: Scenario,
  more: (template: () => Template) => void = () => {},
): void => {
  const example = project(name)
  let template: Template

  beforeAll(async () => {
    await example.npm('build')
    template = await readTemplate(example, 'template.yaml')
  }, TOOL_MS)

  describe(`examples/${name}`, () => {
    it(
      'is a valid template',
      async () => {
        expect(await lintTemplate(example, 'template.yaml')).toBe('')
      },
      TOOL_MS,
    )

    it('attaches the layer to the function', () => {
      const layer = only(template, 'AWS::Serverless::LayerVersion')
      const { Layers, Runtime } = only(template, 'AWS::Serverless::Function').Properties
      expect(Layers).toEqual([{ Ref: layer.id }])
      expect(layer.Properties.CompatibleRuntimes).toContain(Runtime)
    })

    more(() => template)

    const deployment = (): Deployment => {
      const { Properties } = only(template, 'AWS::Serverless::Function')
      return {
        code: example.path(Properties.CodeUri),
        handler: Properties.Handler,
        timeout: Properties.Timeout,
        variables: Properties.Environment.Variables,
        layers: [example.path(only(template, 'AWS::Serverless::LayerVersion').Properties.ContentUri)],
      }
    }
    describeDeployment(deployment, example.path('handler.ts'), scenario)
  })
}
