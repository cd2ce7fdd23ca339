// Which middleware stands where.
import middy from '@middy/core'
import postInvoke, { type Context } from 'middy-post-invoke'
import { audit, metrics } from '../readme/shop.ts'

/** A middleware that defers: it stands behind postInvoke(), so `defer` is there in its `before`. */
const counted: middy.MiddlewareObj<unknown, unknown, Error, Context> = {
  before: ({ context }) => {
    context.defer(() => metrics.count('called'), { name: 'count' })
  },
}

/** One that takes time in its `after`: the caller waits for it, as ever. What it need not wait for, it defers. */
const audited: middy.MiddlewareObj<unknown, unknown, Error, Context> = {
  after: ({ context, response }) => {
    context.defer(() => audit.write(response), { name: 'audit' })
  },
}

export const handler = middy<unknown, unknown>()
  .use(postInvoke()) // the outermost: it knows the outcome of all others
  .use(counted)
  .use(audited)
  .handler(async () => ({ statusCode: 204 }))
