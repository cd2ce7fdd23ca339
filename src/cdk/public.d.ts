import { type Function as LambdaFunction, LayerVersion } from 'aws-cdk-lib/aws-lambda'
import type { Construct } from 'constructs'
/** How the layer is published. All optional. */
export type PostInvokeLayerProps = {
  /** Its name in the account and region. Default: one that CloudFormation makes. */
  readonly layerVersionName?: string
}
/**
 * The layer of this package, published with the stack: the same version as the middleware that the function bundles. In a
 * stack it takes one line: `new PostInvokeLayer(this, 'PostInvokeLayer').attach(orders)`.
 */
export declare class PostInvokeLayer extends LayerVersion {
  constructor(scope: Construct, id: string, props?: PostInvokeLayerProps)
  /**
   * Attaches the layer to functions, beside the layers that they have.
   *
   * @param functions - Functions of a Node.js runtime that the layer is for.
   * @returns the layer.
   * @throws Error for a function that is deployed as an image, which has no layers.
   */
  attach(...functions: readonly LambdaFunction[]): this
}
