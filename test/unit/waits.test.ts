// What everything waits by: it ends, it takes any promise as it is, and it keeps the process only where it is to.
import { describe, expect, it, jest } from '@jest/globals'
import { turns } from './helpers.ts'

// The waits take the timers as they load.
const timers = process.getBuiltinModule('node:timers')
const setTimer = jest.spyOn(timers, 'setTimeout')
const { adopt, all, isThenable, timer, turn, withLimit } = await import('../../src/middleware/waits.ts')

describe('a timer', () => {
  it.each([
    ['that nothing ends', Number.POSITIVE_INFINITY, 2 ** 31 - 1],
    ['of more than setTimeout can count', 2 ** 31, 2 ** 31 - 1],
    ['whose time has passed', -5, 0], // Node.js warns of a negative time
    ['of some time', 60_000, 60_000],
  ])('%s is one that setTimeout can count', (_, milliseconds, expected) => {
    clearTimeout(timer(milliseconds, true, () => {}))
    expect(setTimer).toHaveBeenLastCalledWith(expect.any(Function), expected)
  })

  it.each([true, false])('keeps the process running where it is to: %s', keepsAlive => {
    const timeout = timer(60_000, keepsAlive, () => {})
    expect(timeout.hasRef()).toBe(keepsAlive)
    clearTimeout(timeout)
  })
})

describe('a wait with a limit', () => {
  it('ends with the work, and leaves no timer', async () => {
    const countTimers = () => process.getActiveResourcesInfo().filter(name => name === 'Timeout').length
    const before = countTimers()
    await withLimit(60_000, true, turn())
    expect(countTimers()).toBe(before)
  })

  it('ends without it', async () => {
    await withLimit(5, true, new Promise<never>(() => {}))
  })

  it('fails as the work does', async () => {
    const failure = new Error('failed')
    await expect(withLimit(60_000, true, Promise.reject(failure))).rejects.toBe(failure)
  })
})

describe('a wait for several', () => {
  it('ends with the last one', async () => {
    const ended: string[] = []
    const one = turns(3).then(() => ended.push('one'))
    const other = turn().then(() => ended.push('other'))
    await all([one, undefined, other])
    expect(ended).toEqual(['other', 'one'])
    await all([undefined])
  })
})

/** What has that `then`. */
const withThen = (then: unknown, target: object = {}): any =>
  Object.defineProperty(target, 'then', { value: then, configurable: true })

describe('taken for a promise', () => {
  it.each<[string, unknown, boolean]>([
    ['a promise', Promise.resolve(), true],
    ['an object with a method `then`', withThen(() => {}), true],
    [
      'a function with one',
      withThen(
        () => {},
        () => {},
      ),
      true,
    ],
    ['an object with another `then`', withThen('later'), false],
    ['an object', {}, false],
    ['a function', () => {}, false],
    ['a text', 'then', false],
    ['nothing', undefined, false],
    ['null', null, false],
  ])('%s', (_, value, expected) => {
    expect(isThenable(value)).toBe(expected)
  })

  it('no number, whatever somebody has given all of them', () => {
    const { prototype } = Number as { prototype: { then?: unknown } }
    withThen(() => {}, prototype)
    try {
      expect(isThenable(1)).toBe(false)
    } finally {
      delete prototype.then
    }
  })
})

describe('a native promise of', () => {
  const outcomeOf = (result: PromiseLike<unknown>) =>
    adopt(result).then(
      () => 'fulfilled',
      error => error,
    )
  const failure = new Error('failed')
  const fail = () => {
    throw failure
  }
  class Other<Value> extends Promise<Value> {}

  it.each<[string, () => PromiseLike<unknown>, unknown]>([
    ['a promise', () => Promise.resolve(), 'fulfilled'],
    ['one that fails', () => Promise.reject(failure), failure],
    ['one of a subclass', () => Other.resolve(), 'fulfilled'],
    ['one of a subclass that fails', () => Other.reject(failure), failure],
    ['an object with a `then` that calls back', () => withThen((resolve: () => void) => resolve()), 'fulfilled'],
    ['an object with a `then` that throws', () => withThen(fail), failure],
    ['a promise with a `then` of its own that throws', () => withThen(fail, Promise.resolve()), failure],
    ['what says that it is a promise, and is none', () => Object.create(Promise.prototype), expect.any(TypeError)],
  ])('%s', async (_, make, expected) => {
    expect(await outcomeOf(make())).toEqual(expected)
  })

  const callBoth = (resolve: () => void, reject: () => void) => {
    resolve()
    resolve()
    reject()
  }

  it.each<[string, PromiseLike<unknown>]>([
    ['of its own', withThen(callBoth, Promise.resolve())],
    ['of its class', Object.create(withThen(callBoth))],
  ])('what calls both, by a `then` %s, calls one of the two, once', async (_, result) => {
    const called = jest.fn()
    adopt(result).then(called, called)
    await turn()
    expect(called).toHaveBeenCalledTimes(1)
  })

  it('a plain promise is that promise', () => {
    const promise = Promise.resolve()
    expect(adopt(promise)).toBe(promise)
  })
})
