// Stale while revalidate: answers from the cache at once, and refreshes it behind the answer.
import middy from '@middy/core'
import postInvoke from 'middy-post-invoke'

const { RATES_URL = '' } = process.env
const FRESH_MS = 60_000

type Rates = Record<string, number>
let cached: { rates: Rates; at: number } | undefined

const refresh = async (signal?: AbortSignal): Promise<Rates> => {
  const response = await fetch(RATES_URL, signal ? { signal } : {})
  cached = { rates: (await response.json()) as Rates, at: Date.now() }
  return cached.rates
}

export const handler = middy()
  .use(postInvoke())
  .handler(async (_event, context) => {
    if (!cached) return refresh() // the first answer of an environment waits
    if (Date.now() - cached.at > FRESH_MS) {
      context.defer(({ signal }) => refresh(signal), { name: 'refresh', timeout: 5_000 })
    }
    return cached.rates
  })
