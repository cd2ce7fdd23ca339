/**
 * The layer for apps of the AWS CDK. It needs `aws-cdk-lib`, which such an app has.
 *
 * @packageDocumentation
 */
import { fileURLToPath } from 'node:url'
import {
  Architecture,
  Code,
  type Function as LambdaFunction,
  LayerVersion,
  Runtime,
  RuntimeFamily,
} from 'aws-cdk-lib/aws-lambda'
import type { Construct } from 'constructs'
import { version } from '../version.ts'

/** How the layer is published. All optional. */
export type PostInvokeLayerProps = {
  /** Its name in the account and region. Default: one that CloudFormation makes. */
  readonly layerVersionName?: string
}

/** The CDK attaches a layer to no function of a runtime that it is not for, and has no name for one in preview. */
const nodejs26 =
  Runtime.ALL.find(({ name }) => name === 'nodejs26.x') ?? new Runtime('nodejs26.x', RuntimeFamily.NODEJS)

/**
 * The layer of this package, published with the stack: the same version as the middleware that the function bundles. In a
 * stack it takes one line: `new PostInvokeLayer(this, 'PostInvokeLayer').attach(orders)`.
 */
export class PostInvokeLayer extends LayerVersion {
  constructor(scope: Construct, id: string, props: PostInvokeLayerProps = {}) {
    super(scope, id, {
      ...props,
      code: Code.fromAsset(fileURLToPath(new URL('../layer.zip', import.meta.url))),
      description: `middy-post-invoke ${version}`,
      compatibleRuntimes: [Runtime.NODEJS_22_X, Runtime.NODEJS_24_X, nodejs26],
      compatibleArchitectures: [Architecture.X86_64, Architecture.ARM_64],
    })
  }

  /**
   * Attaches the layer to functions, beside the layers that they have.
   *
   * @param functions - Functions of a Node.js runtime that the layer is for.
   * @returns the layer.
   * @throws Error for a function that is deployed as an image, which has no layers.
   */
  attach(...functions: readonly LambdaFunction[]): this {
    for (const lambdaFunction of functions) lambdaFunction.addLayers(this)
    return this
  }
}
