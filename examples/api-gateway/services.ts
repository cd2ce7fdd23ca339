// What the handler calls. Timers stand in for a database, an audit trail and a collector, so that the example needs no
// network.
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'

export type Order = { readonly product: string; readonly quantity: number }

export const orders = {
  async store(_order: Order): Promise<string> {
    await sleep(40)
    return randomUUID()
  },
  async close(): Promise<void> {
    await sleep(30)
  },
}

export const audit = {
  async write(_entry: { action: string; id: string; by: string }): Promise<void> {
    await sleep(90)
  },
}

export const analytics = {
  /** Gives up when `signal` is aborted. */
  async track(_name: string, _properties: Record<string, unknown>, signal: AbortSignal): Promise<void> {
    await sleep(150, undefined, { signal })
  },
}
