import { afterEach, beforeEach, jest } from '@jest/globals'

/**
 * Has each test of a file run on Jest's fake clock and timers, and the package's own follow them. It takes them as it loads, so
 * that fakes of others do not reach them: call this first, and import what is tested afterwards.
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
  beforeEach(() => {
    jest.useFakeTimers({ doNotFake: ['nextTick', 'queueMicrotask', 'performance', 'hrtime'] })
  })
  afterEach(() => {
    jest.useRealTimers()
  })
}
