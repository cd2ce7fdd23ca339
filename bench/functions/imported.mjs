// Plain Middy, with the middleware in the bundle and not used: what its import costs.
import middy from '@middy/core'
import { answer } from './work.mjs'

export { default } from 'middy-post-invoke'
export const handler = middy().handler(async () => answer())
