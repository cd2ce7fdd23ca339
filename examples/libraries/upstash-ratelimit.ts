// Upstash Ratelimit: its analytics, and what it tells other regions, are waited for after the answer.
import { Ratelimit } from '@upstash/ratelimit'
import { Redis } from '@upstash/redis'
import { waitUntil, withPostInvoke } from 'middy-post-invoke/handler'

const ratelimit = new Ratelimit({
  redis: new Redis({ url: process.env.SERVICES_URL ?? '', token: 'token', retry: false }),
  limiter: Ratelimit.fixedWindow(10, '10 s'),
  analytics: true,
})

export const handler = withPostInvoke(async () => {
  const { success, pending } = await ratelimit.limit('ann')
  waitUntil(pending)
  return { statusCode: success ? 201 : 429 }
})

export const otherwise = withPostInvoke(async () => {
  const { success } = await ratelimit.limit('ann')
  return { statusCode: success ? 201 : 429 }
})
