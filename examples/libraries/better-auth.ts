// Better Auth: a mail is sent after the answer.
import type { APIGatewayProxyEventV2 } from 'aws-lambda'
import { type BetterAuthOptions, betterAuth } from 'better-auth'
import { memoryAdapter } from 'better-auth/adapters/memory'
import { waitUntil, withPostInvoke } from 'middy-post-invoke/handler'

const email = 'ann@example.com'

const handlerWith = (options: BetterAuthOptions) => {
  const auth = betterAuth({
    baseURL: 'https://shop.example.com',
    secret: 'of at least thirty-two characters',
    database: memoryAdapter({ user: [], session: [], account: [], verification: [] }),
    emailAndPassword: {
      enabled: true,
      sendResetPassword: async ({ url }) => {
        await fetch(`${process.env.SERVICES_URL}/mail`, { method: 'POST', body: url })
      },
    },
    ...options,
  })
  return withPostInvoke(async (_event: APIGatewayProxyEventV2) => {
    await auth.api.signUpEmail({ body: { name: 'Ann', email, password: 'correct horse' } })
    const { status } = await auth.api.requestPasswordReset({ body: { email } })
    return { statusCode: status ? 201 : 500 }
  })
}

export const handler = handlerWith({ advanced: { backgroundTasks: { handler: waitUntil } } })
export const otherwise = handlerWith({})
