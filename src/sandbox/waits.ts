export type Waits = {
  /** Resolves to `true` when the condition holds, or to `false` once `limitMs` are over. */
  until(condition: () => boolean, limitMs: number): Promise<boolean>
  /** To be called after anything that a condition may look at has changed. */
  check(): void
}

/** Waiting for a state, with an end to every wait. */
export const createWaits = (): Waits => {
  const pending = new Set<() => void>()
  return {
    until: (condition, limitMs) =>
      new Promise(resolve => {
        const settle = (holds: boolean) => {
          pending.delete(look)
          clearTimeout(timer)
          resolve(holds)
        }
        const look = () => {
          if (condition()) settle(true)
        }
        const timer = setTimeout(() => settle(condition()), Math.max(0, limitMs))
        pending.add(look)
        look()
      }),
    check() {
      for (const look of [...pending]) look()
    },
  }
}
