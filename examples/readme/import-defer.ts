import { defer } from 'middy-post-invoke'
import { analytics, type Order } from './shop.ts'

export const trackLater = (order: Order) => {
  defer(({ signal }) => analytics.track('order', order, { signal }), { name: 'analytics' })
}
