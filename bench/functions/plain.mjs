// A Middy handler that has no work to do after its answer.
import middy from '@middy/core'
import { answer } from './work.mjs'

export const handler = middy().handler(async () => answer())
