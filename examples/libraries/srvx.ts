// srvx 1: `waitUntil` of the request.
import { withExecutionContext, withPostInvoke } from 'middy-post-invoke/handler'
import type { ServerRequest } from 'srvx'
import { toLambdaHandler } from 'srvx/aws-lambda'

const app = {
  fetch: (request: ServerRequest) => {
    request.waitUntil?.(fetch(`${process.env.SERVICES_URL}/audit`, { method: 'POST' }))
    return new Response('placed', { status: 201 })
  },
}

export const handler = withPostInvoke(toLambdaHandler(withExecutionContext(app)))
/** Without it there is no `waitUntil`: what the app does for want of it is not waited for. */
export const otherwise = withPostInvoke(
  toLambdaHandler({
    fetch: (request: ServerRequest) =>
      app.fetch(Object.assign(request, { waitUntil: (promise: Promise<unknown>) => void promise })),
  }),
)
