// GraphQL Yoga, and other servers made with @whatwg-node/server: `waitUntil` of the context.
import { createSchema, createYoga } from 'graphql-yoga'
import { waitUntil, withPostInvoke } from 'middy-post-invoke/handler'

type ServerContext = { waitUntil?: (promise: Promise<unknown>) => void }

const yoga = createYoga<ServerContext>({
  schema: createSchema<ServerContext>({
    typeDefs: 'type Query { order: String }',
    resolvers: {
      Query: {
        order: (_parent, _args, context) => {
          context.waitUntil?.(fetch(`${process.env.SERVICES_URL}/audit`, { method: 'POST' }))
          return 'tea'
        },
      },
    },
  }),
})

const url = 'https://shop.example.com/graphql'
const request = {
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify({ query: '{ order }' }),
}
const toResult = async (response: Response) => ({ statusCode: response.status, body: await response.text() })

export const handler = withPostInvoke(async () => toResult(await yoga.fetch(url, request, { waitUntil })))
export const otherwise = withPostInvoke(async () => toResult(await yoga.fetch(url, request)))
