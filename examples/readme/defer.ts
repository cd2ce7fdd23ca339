import type { Context } from 'middy-post-invoke'
import { analytics, audit, metrics, type Order } from './shop.ts'

export const deferAll = (order: Order, context: Context) => {
  // #region defer
  // A function is called once the response has left.
  context.defer(({ signal }) => analytics.track('order', order, { signal }), { timeout: 2_000 })

  // Only after a success, only after an error.
  context.defer(() => audit.write({ order, action: 'placed' }), { name: 'audit', on: 'success' })
  context.defer(({ error }) => audit.write({ order, error }), { name: 'audit failure', on: 'error' })

  // A promise is work already under way: its end is waited for.
  context.defer(metrics.count('orders'), { name: 'metrics' })
  // #endregion
}
