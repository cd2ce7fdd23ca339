// What is done without a middleware like this: the caller waits for work that is not for him.
import middy from '@middy/core'
import { answer, work } from './work.mjs'

export const handler = middy().handler(async event => {
  if (event.work) await work(event.work)
  return answer()
})
