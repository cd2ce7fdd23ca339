// An HTTP API that takes orders, and reports them after it has answered. `cdk deploy` with Node.js 24.
import { fileURLToPath } from 'node:url'
import { App, CfnOutput, CfnParameter, Duration, Stack } from 'aws-cdk-lib'
import { HttpApi, HttpMethod } from 'aws-cdk-lib/aws-apigatewayv2'
import { HttpLambdaIntegration } from 'aws-cdk-lib/aws-apigatewayv2-integrations'
import { Architecture, Runtime } from 'aws-cdk-lib/aws-lambda'
import { NodejsFunction, OutputFormat } from 'aws-cdk-lib/aws-lambda-nodejs'
import { PostInvokeLayer } from 'middy-post-invoke/cdk'

const app = new App()
const stack = new Stack(app, 'Orders')

const analyticsUrl = new CfnParameter(stack, 'AnalyticsUrl', { description: 'Where orders are reported to.' })

const orders = new NodejsFunction(stack, 'Function', {
  entry: fileURLToPath(import.meta.resolve('./handler.ts')),
  runtime: Runtime.NODEJS_24_X,
  architecture: Architecture.ARM_64,
  memorySize: 512,
  timeout: Duration.seconds(30), // what is deferred counts
  environment: { ANALYTICS_URL: analyticsUrl.valueAsString },
  bundling: { format: OutputFormat.ESM, minify: true }, // by esbuild, where that is installed; else by Docker
})

new PostInvokeLayer(stack, 'PostInvokeLayer').attach(orders)

const api = new HttpApi(stack, 'Api')
api.addRoutes({
  path: '/orders',
  methods: [HttpMethod.POST],
  integration: new HttpLambdaIntegration('Integration', orders),
})

new CfnOutput(stack, 'Url', { value: `${api.apiEndpoint}/orders` })
