// Apollo Server: what its plugins await is awaited before the answer. Resolvers and plugins can defer.
import { ApolloServer, type ApolloServerPlugin } from '@apollo/server'
import { handlers, startServerAndCreateLambdaHandler } from '@as-integrations/aws-lambda'
import type { APIGatewayProxyEventV2, APIGatewayProxyStructuredResultV2 } from 'aws-lambda'
import { defer, withPostInvoke } from 'middy-post-invoke/handler'

const report = () => fetch(`${process.env.SERVICES_URL}/report`, { method: 'POST' })

const handlerWith = (willSendResponse: () => Promise<void>) => {
  const plugin: ApolloServerPlugin = { requestDidStart: async () => ({ willSendResponse }) }
  const server = new ApolloServer({
    typeDefs: 'type Query { order: String }',
    resolvers: { Query: { order: () => 'tea' } },
    plugins: [plugin],
    csrfPrevention: false,
  })
  const handle = startServerAndCreateLambdaHandler(server, handlers.createAPIGatewayProxyEventV2RequestHandler())
  return withPostInvoke((event: APIGatewayProxyEventV2, context) => {
    const request = {
      ...event,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ query: '{ order }' }),
    }
    return handle(request, context, () => {}) as Promise<APIGatewayProxyStructuredResultV2>
  })
}

export const handler = handlerWith(async () => {
  defer(report, { name: 'report' })
})

export const otherwise = handlerWith(async () => {
  await report()
})
