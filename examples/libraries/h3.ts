// h3 2, which is what Nitro 3 is made of, on the adapter of srvx: `waitUntil` of the event.
import { H3 } from 'h3'
import { withExecutionContext, withPostInvoke } from 'middy-post-invoke/handler'
import { toLambdaHandler } from 'srvx/aws-lambda'

const app = new H3().post('/orders', event => {
  event.waitUntil(fetch(`${process.env.SERVICES_URL}/audit`, { method: 'POST' }))
  event.res.status = 201
  return { placed: 'tea' }
})

export const handler = withPostInvoke(toLambdaHandler(withExecutionContext(app)))
export const otherwise = withPostInvoke(toLambdaHandler(app))
