import { createHandOff } from 'middy-post-invoke/hand-off'
import type { Order } from './shop.ts'

const handOff = createHandOff<typeof import('./jobs.ts')>()

export const announce = (order: Order) => {
  handOff(
    {
      url: 'https://hooks.example/orders',
      method: 'PUT',
      headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${process.env.HOOK_TOKEN}` },
      body: JSON.stringify(order),
    },
    {
      name: 'order hook',
      retry: { maxRetries: 4, minTimeout: 200 },
      dispatcher: { headersTimeout: 2_000 },
    },
  )
  handOff('archive', order, { name: 'order archive', timeout: 5_000 })
}
