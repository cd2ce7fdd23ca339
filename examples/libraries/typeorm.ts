// TypeORM: no idle connection is left while the environment is frozen.
import { defer, withPostInvoke } from 'middy-post-invoke/handler'
import type { Pool } from 'pg'
import { DataSource, EntitySchema } from 'typeorm'
import { closeIdle } from './close-idle.ts'

type Order = { id: number; product: string }
const orders = new EntitySchema<Order>({
  name: 'orders',
  columns: { id: { type: Number, primary: true, generated: true }, product: { type: String } },
})

const { PGHOST = '', PGPORT, PGUSER = '', PGDATABASE = '', PGAPPNAME = '' } = process.env
const source = new DataSource({
  type: 'postgres',
  host: PGHOST,
  port: Number(PGPORT),
  username: PGUSER,
  database: PGDATABASE,
  applicationName: PGAPPNAME,
  entities: [orders],
})
await source.initialize()
const pool: Pool = (source.driver as { master?: Pool }).master as Pool

const order = async () => {
  const { id } = await source.getRepository(orders).save({ product: 'tea' })
  defer(() => source.query('insert into audit (order_id) values ($1)', [id]), { name: 'audit' })
  return { id }
}

export const handler = withPostInvoke(async () => {
  defer(() => closeIdle(pool), { name: 'close' }) // deferred first: it runs last
  return order()
})

export const otherwise = withPostInvoke(order)
