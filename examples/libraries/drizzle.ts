// Drizzle on a pool of node-postgres: no idle connection is left while the environment is frozen.
import { drizzle } from 'drizzle-orm/node-postgres'
import { integer, pgTable, serial, text } from 'drizzle-orm/pg-core'
import { defer, withPostInvoke } from 'middy-post-invoke/handler'
import { Pool } from 'pg'
import { closeIdle } from './close-idle.ts'

const orders = pgTable('orders', { id: serial().primaryKey(), product: text().notNull() })
const audit = pgTable('audit', { orderId: integer('order_id').notNull() })

const pool = new Pool({ connectionTimeoutMillis: 2_000 })
const database = drizzle(pool)

const order = async () => {
  const [placed] = await database.insert(orders).values({ product: 'tea' }).returning()
  const id = placed?.id ?? 0
  defer(() => database.insert(audit).values({ orderId: id }), { name: 'audit' })
  return { id }
}

export const handler = withPostInvoke(async () => {
  defer(() => closeIdle(pool), { name: 'close' }) // deferred first: it runs last
  return order()
})

export const otherwise = withPostInvoke(order)
