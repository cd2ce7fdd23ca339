import { once } from 'node:events'
import type { Pool } from 'pg'

/** Closes the connections of a pool that nobody uses. */
export const closeIdle = async (pool: Pool): Promise<void> => {
  const clients = await Promise.all(Array.from({ length: pool.idleCount }, () => pool.connect()))
  await Promise.all(
    clients.map(client => {
      const ended = once(client, 'end')
      client.release(true)
      return ended
    }),
  )
}
