// What the handlers in this folder call. Timers stand in for a database and a mail server.
import { setTimeout as sleep } from 'node:timers/promises'

export type Order = { readonly id: string; readonly mail?: string }

export const orders = {
  async place(order: Order): Promise<void> {
    await sleep(10, order)
  },
}

export const mails = {
  /** Fails for an order without an address. */
  async send({ mail }: Order, options: { signal: AbortSignal }): Promise<void> {
    await sleep(20, undefined, options)
    if (mail === undefined) throw new Error('no address')
  },
}
