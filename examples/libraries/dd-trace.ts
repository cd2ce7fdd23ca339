// dd-trace: the span of a task has that of the handler as its parent, and is written before the environment is frozen.
import tracer from 'dd-trace'
import { defer, withPostInvoke } from 'middy-post-invoke/handler'

tracer.init()

const audit = () => fetch(`${process.env.SERVICES_URL}/audit`, { method: 'POST' })

export const handler = withPostInvoke(async () =>
  tracer.trace('order', () => {
    defer(() => tracer.trace('audit', audit), { name: 'audit' })
    return { statusCode: 201 }
  }),
)

export const otherwise = withPostInvoke(async () =>
  tracer.trace('order', () => {
    void tracer.trace('audit', audit)
    return { statusCode: 201 }
  }),
)
