// tRPC: what a procedure defers runs after the answer.
import { initTRPC } from '@trpc/server'
import { awsLambdaRequestHandler } from '@trpc/server/adapters/aws-lambda'
import type { APIGatewayProxyEventV2, Context } from 'aws-lambda'
import { defer, withPostInvoke } from 'middy-post-invoke/handler'

const trpc = initTRPC.create()
const audit = () => fetch(`${process.env.SERVICES_URL}/audit`, { method: 'POST' })

const handlerOf = (resolve: () => string) => {
  const router = trpc.router({ order: trpc.procedure.mutation(resolve) })
  const handle = awsLambdaRequestHandler({ router })
  return withPostInvoke((event: APIGatewayProxyEventV2, context: Context) =>
    handle({ ...event, rawPath: '/order' }, context),
  )
}

export const handler = handlerOf(() => {
  defer(audit, { name: 'audit' })
  return 'tea'
})

export const otherwise = handlerOf(() => {
  void audit()
  return 'tea'
})
