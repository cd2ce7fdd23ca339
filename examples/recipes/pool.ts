// A connection pool: made when it is first needed, used by handler and tasks, closed when Lambda ends the environment.
import middy from '@middy/core'
import postInvoke, { resource } from 'middy-post-invoke'
import { Pool } from 'pg'

const database = resource(
  () => new Pool({ max: 1, connectionString: process.env.DATABASE_URL }),
  pool => pool.end(),
  { name: 'database', timeout: 200 },
)

export const handler = middy<{ id: string }>()
  .use(postInvoke())
  .handler(async ({ id }, context) => {
    const { rows } = await database().query('select * from orders where id = $1', [id])
    context.defer(() => database().query('update orders set seen = now() where id = $1', [id]), { name: 'seen' })
    return rows[0]
  })
