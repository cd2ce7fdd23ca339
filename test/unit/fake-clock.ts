import { jest } from '@jest/globals'

/**
 * Makes the package's own clock and timers follow Jest's fakes. It takes them as it loads, so that fakes of others do not
 * reach them: call this first, and import what is tested afterwards.
 */
export const followFakeClock = (): void => {
  const { getBuiltinModule } = process
  const timers = {
    setTimeout: (...args: Parameters<typeof setTimeout>) => setTimeout(...args),
    clearTimeout: (timeout: NodeJS.Timeout) => clearTimeout(timeout),
    setImmediate: (fn: () => void) => setImmediate(fn),
  }
  jest
    .spyOn(process, 'getBuiltinModule')
    .mockImplementation(((id: string) => (id === 'node:timers' ? timers : getBuiltinModule(id))) as any)
  jest.spyOn(performance, 'now').mockImplementation(() => Date.now())
}
