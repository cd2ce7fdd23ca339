// How the layer is published and attached, tool by tool, as text to be copied.
import { version } from '../version.ts'
import { dockerCopy, hcl, shell, typescript, yaml } from './quote.ts'

export const tools = ['aws-cli', 'sam', 'cdk', 'serverless', 'terraform', 'sst', 'pulumi', 'container'] as const
export type Tool = (typeof tools)[number]

export type Attachment = { readonly name: Tool; readonly title: string; readonly text: string }

/** Where the layer lies, relative to the current folder. */
export type LayerPaths = { readonly zip: string; readonly folder: string }

const description = `middy-post-invoke ${version}`

const layerVersion = (archive: string, zip: string) => `{
  layerName: 'middy-post-invoke',
  description: ${typescript(description)},
  code: new ${archive}(${typescript(zip)}),
  compatibleRuntimes: ['nodejs22.x', 'nodejs24.x'], // and 'nodejs26.x', where your version of the AWS provider takes it
  compatibleArchitectures: ['x86_64', 'arm64'],
}`

export const attachments = ({ zip, folder }: LayerPaths): readonly Attachment[] => [
  {
    name: 'aws-cli',
    title: 'AWS CLI',
    text: `\
layer=$(aws lambda publish-layer-version \\
  --layer-name middy-post-invoke \\
  --description ${shell(description)} \\
  --zip-file ${shell(`fileb://${zip}`)} \\
  --compatible-runtimes nodejs22.x nodejs24.x nodejs26.x \\
  --compatible-architectures x86_64 arm64 \\
  --query LayerVersionArn --output text)

# This replaces the whole list of layers: name the function's others too.
aws lambda update-function-configuration --function-name my-function --layers "$layer"`,
  },
  {
    name: 'sam',
    title: 'AWS SAM (template.yaml; `post-invoke template` writes a whole one)',
    text: `\
Resources:
  PostInvokeLayer:
    Type: AWS::Serverless::LayerVersion
    Properties:
      LayerName: middy-post-invoke
      Description: ${yaml(description)}
      ContentUri: ${yaml(zip)}
      CompatibleRuntimes:
        - nodejs22.x
        - nodejs24.x
        - nodejs26.x
      CompatibleArchitectures:
        - x86_64
        - arm64
  MyFunction:
    Type: AWS::Serverless::Function
    Properties:
      Layers:
        - !Ref PostInvokeLayer`,
  },
  {
    name: 'cdk',
    title: 'AWS CDK (it takes the layer from the package)',
    text: `\
import { PostInvokeLayer } from 'middy-post-invoke/cdk'

new PostInvokeLayer(this, 'PostInvokeLayer').attach(myFunction)`,
  },
  {
    name: 'serverless',
    title: 'Serverless Framework (serverless.yml)',
    text: `\
layers:
  postInvoke:
    name: middy-post-invoke
    description: ${yaml(description)}
    package:
      artifact: ${yaml(zip)}

functions:
  my-function:
    layers:
      - Ref: PostInvokeLambdaLayer`,
  },
  {
    name: 'terraform',
    title: 'Terraform',
    text: `\
# Where the package is installed its own module does the same: source = "./node_modules/middy-post-invoke/terraform",
# and layers = [module.post_invoke.layer_arn].
resource "aws_lambda_layer_version" "post_invoke" {
  layer_name               = "middy-post-invoke"
  description              = ${hcl(description)}
  filename                 = ${hcl(zip)}
  source_code_hash         = filebase64sha256(${hcl(zip)})
  compatible_runtimes      = ["nodejs22.x", "nodejs24.x"] # and "nodejs26.x", where your version of the provider takes it
  compatible_architectures = ["x86_64", "arm64"]
}

resource "aws_lambda_function" "my_function" {
  layers = [aws_lambda_layer_version.post_invoke.arn]
}`,
  },
  {
    name: 'sst',
    title: 'SST, version 3 (in run() of sst.config.ts)',
    text: `\
const postInvokeLayer = new aws.lambda.LayerVersion('PostInvokeLayer', ${layerVersion('$util.asset.FileArchive', zip)})
new sst.aws.Function('MyFunction', {
  handler: 'src/handler.handler',
  layers: [postInvokeLayer.arn],
})`,
  },
  {
    name: 'pulumi',
    title: 'Pulumi (TypeScript)',
    text: `\
import * as aws from '@pulumi/aws'
import * as pulumi from '@pulumi/pulumi'

const postInvokeLayer = new aws.lambda.LayerVersion('PostInvokeLayer', ${layerVersion('pulumi.asset.FileArchive', zip)})
// In the arguments of the function:
const layers = [postInvokeLayer.arn]`,
  },
  {
    name: 'container',
    title: 'Container image (Dockerfile): there are no layers, but /opt',
    text: dockerCopy(`${folder.replace(/\/$/, '')}/`, '/opt/'),
  },
]
