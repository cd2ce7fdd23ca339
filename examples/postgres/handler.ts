// POST /orders with PostgreSQL: the customer has the answer once the order is stored, the audit record is written after it,
// and the connections are closed when Lambda ends the environment.
import middy from '@middy/core'
import type { APIGatewayProxyEventV2, APIGatewayProxyStructuredResultV2 } from 'aws-lambda'
import postInvoke, { resource } from 'middy-post-invoke'
import { Pool } from 'pg'

// Where the server is stands in pg's own variables: PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, PGAPPNAME.
const openPool = () => {
  const pool = new Pool({
    max: 1, // an environment has one invocation at a time
    idleTimeoutMillis: 0, // timers stand still while the environment is frozen; the shutdown closes it instead
    connectionTimeoutMillis: 2_000,
  })
  // A connection that broke while nobody used it, in a frozen environment for example. The pool opens another one.
  pool.on('error', error => console.warn('database connection lost:', error.message))
  return pool
}

// Opened at its first use. Without its end here the server would keep the connections of an environment that is gone,
// each of them until it notices.
const database = resource(openPool, pool => pool.end(), { name: 'database' })

export const handler = middy<APIGatewayProxyEventV2, APIGatewayProxyStructuredResultV2>()
  .use(postInvoke())
  .handler(async (event, context) => {
    const { product } = JSON.parse(event.body ?? '{}')
    const { rows } = await database().query('insert into orders (product) values ($1) returning id', [product])
    const { id } = rows[0]
    context.defer(() => database().query('insert into audit (order_id) values ($1)', [id]), { name: 'audit' })
    return { statusCode: 201, body: JSON.stringify({ id }) }
  })
