import middy from '@middy/core'
import postInvoke, { onShutdown, resource } from 'middy-post-invoke'
import { connect, metrics } from './shop.ts'

// Made once, at its first use; disposed of at shutdown, the last made first.
const database = resource(connect, client => client.end())

onShutdown(({ signal }) => metrics.flush({ signal }), { name: 'metrics', timeout: 100 })

export const handler = middy()
  .use(postInvoke())
  .handler(async (_event, context) => {
    const client = await database()
    context.defer(() => client.query('insert into audit …'))
    return client.query('select …')
  })
