// A function beside a service that answers none of its calls until open() is called: what comes before, and what waits for it.
import { startRun } from '../support/run.ts'
import { startTarget } from '../support/target.ts'

/** The function finds the service's address in `SERVICES_URL`. */
export const startHeldRun = async (options: Omit<Parameters<typeof startRun>[0], 'freeze'>) => {
  const { promise: opened, resolve: open } = Promise.withResolvers<void>()
  const ends: number[] = []
  const services = await startTarget(async response => {
    await opened
    ends.push(Number(process.hrtime.bigint()) / 1e6)
    response.end()
  })
  const run = await startRun({
    ...options,
    freeze: true,
    environment: { ...options.environment, SERVICES_URL: services.url },
  })
  return {
    ...{ run, open },
    /** When the service has answered each call. */
    ends,
    called: () => services.received.map(({ method, path }) => `${method} ${path}`).sort(),
    async [Symbol.asyncDispose]() {
      open()
      await run.sandbox[Symbol.asyncDispose]()
      await services[Symbol.asyncDispose]()
    },
  }
}
