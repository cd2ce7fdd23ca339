import { type Context, PostInvokeError } from 'middy-post-invoke'
import { analytics, audit, type Order } from './shop.ts'

export const track = (order: Order, context: Context) => {
  // #region errors
  context.defer(async ({ signal }) => {
    try {
      await analytics.track('order', order, { signal })
    } catch (error) {
      const { reason } = signal
      if (!(reason instanceof PostInvokeError)) throw error
      // ERR_TASK_TIMEOUT or ERR_TASK_DEADLINE: 100 ms are left for what must still be done.
      await audit.write({ order, lost: reason.code })
    }
  })
  // #endregion
}
