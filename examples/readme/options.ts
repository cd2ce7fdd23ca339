import postInvoke, { type Options } from 'middy-post-invoke'
import { metrics } from './shop.ts'

const options: Options = {
  order: 'fifo',
  concurrency: 4,
  taskTimeout: 5_000,
  onTaskError: (_error, { name }) => metrics.count(`deferred.${name}.failed`),
}

export const middleware = postInvoke(options)
