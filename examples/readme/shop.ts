// What the samples of the README call.
import { setTimeout as sleep } from 'node:timers/promises'

export type Order = { id: string; item: string }

export const placeOrder = async (event: { body?: string | undefined }): Promise<Order> => {
  await sleep(10)
  return { id: '1', item: event.body ?? '' }
}

export const analytics = {
  async track(_event: string, _order: Order, options: { signal: AbortSignal }): Promise<void> {
    await sleep(10, undefined, options)
  },
}

export const audit = {
  async write(_entry: unknown): Promise<void> {
    await sleep(10)
  },
}

export const metrics = {
  async count(_name: string): Promise<void> {
    await sleep(1)
  },
  async flush(options: { signal: AbortSignal }): Promise<void> {
    await sleep(10, undefined, options)
  },
}

export const connect = async () => ({
  async query(statement: string): Promise<string> {
    await sleep(1)
    return statement
  },
  async end(): Promise<void> {
    await sleep(10)
  },
})
