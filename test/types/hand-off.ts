// The types of handed-off work: a wrong name of a job, or a wrong payload, does not compile.
import middy from '@middy/core'
import withHandOff, {
  createHandOff,
  type HandOff,
  handOff,
  type JobContext,
  type JobName,
} from '../../src/hand-off/index.ts'
import postInvoke from '../../src/index.ts'
import { check, type Same } from './expect.ts'

const jobs = {
  mail: (_mail: { to: string; copies?: number }, { attempt }: JobContext) => attempt,
  flush: () => {},
  count: async (_by?: number) => {},
  limit: 42,
}
type Jobs = typeof jobs

check<Same<JobName<Jobs>, 'mail' | 'flush' | 'count'>>()

const typed = createHandOff<Jobs>()
typed('mail', { to: 'a' })
typed('mail', { to: 'a', copies: 2 }, { timeout: 5, name: 'mail', retry: { maxRetries: 1 } })
typed('flush')
typed('flush', undefined, { timeout: 5 })
typed('count')
typed('count', 2)
// @ts-expect-error no such job
typed('post', { to: 'a' })
// @ts-expect-error no function
typed('limit')
// @ts-expect-error no payload
typed('mail')
// @ts-expect-error another payload
typed('mail', { to: 1 })
// @ts-expect-error a payload for a job that takes none
typed('flush', { to: 'a' })
// @ts-expect-error no such option of a job
typed('flush', undefined, { dispatcher: {} })

typed({ url: 'https://a.example' })
typed(new Request('https://a.example'), { name: 'a', dispatcher: { headersTimeout: 1 } })
typed({ url: new URL('https://a.example'), method: 'PUT', headers: new Headers(), body: new Uint8Array() })
// @ts-expect-error no url
typed({ method: 'GET' })
// @ts-expect-error an object is no body
typed({ url: 'https://a.example', body: { a: 1 } })
// @ts-expect-error no such option of a request
typed({ url: 'https://a.example' }, { timeout: 5 })
// @ts-expect-error a function is no work
typed(() => {})

handOff('anything', { a: [1, null] })

export const handler = middy()
  .use(postInvoke())
  .use(withHandOff<Jobs>())
  .handler(async (_event, context) => {
    context.defer(() => {})
    context.handOff('mail', { to: 'a' })
    // @ts-expect-error no such job
    context.handOff('post')
    return context.awsRequestId
  })

export const untyped = middy()
  .use(postInvoke())
  .use(withHandOff())
  .handler(async (_event, context) => {
    context.handOff('anything', 1)
    context.handOff({ url: 'https://a.example' })
  })

middy()
  .use(postInvoke())
  .handler(async (_event, context) => {
    // @ts-expect-error without its middleware
    context.handOff('anything')
  })

// What Middy makes of it: it asks nothing of the event, and nothing of what others leave in `internal`.
type Seen<Middleware> =
  Middleware extends middy.MiddlewareObj<infer Event, any, any, infer Seen, infer Internal>
    ? [Event, Seen['handOff' & keyof Seen], keyof Internal]
    : never
const middleware = withHandOff<Jobs>()
check<Same<Seen<typeof middleware>, [unknown, HandOff<Jobs>, never]>>()
