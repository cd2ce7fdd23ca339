// The module that POST_INVOKE_JOBS names: its exported functions are the jobs.
import type { JobContext } from 'middy-post-invoke/hand-off'
import { audit, type Order } from './shop.ts'

export const archive = async (order: Order, { idempotencyKey }: JobContext) => {
  await audit.write({ order, action: 'placed', key: idempotencyKey })
}
