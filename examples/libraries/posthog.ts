// PostHog: what was captured is sent after the answer.
import { waitUntil, withPostInvoke } from 'middy-post-invoke/handler'
import { PostHog } from 'posthog-node'

const key = 'key'
const host = process.env.SERVICES_URL ?? ''

const capture = (posthog: PostHog) =>
  withPostInvoke(async () => {
    posthog.capture({ distinctId: 'ann', event: 'order placed' })
    return { statusCode: 201 }
  })

export const handler = capture(new PostHog(key, { host, waitUntil }))
export const otherwise = capture(new PostHog(key, { host }))
