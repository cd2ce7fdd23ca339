// node-postgres: no idle connection is left while the environment is frozen.
import { defer, withPostInvoke } from 'middy-post-invoke/handler'
import { Pool } from 'pg'
import { closeIdle } from './close-idle.ts'

const pool = new Pool({ connectionTimeoutMillis: 2_000 })

const order = async () => {
  const { rows } = await pool.query("insert into orders (product) values ('tea') returning id")
  const { id } = rows[0]
  defer(() => pool.query('insert into audit (order_id) values ($1)', [id]), { name: 'audit' })
  return { id }
}

export const handler = withPostInvoke(async () => {
  defer(() => closeIdle(pool), { name: 'close' }) // deferred first: it runs last
  return order()
})

export const otherwise = withPostInvoke(order)
