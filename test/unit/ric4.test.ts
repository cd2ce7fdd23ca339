// What the runtime client of nodejs24.x does to its global, played here; the real one is run elsewhere.
import { AsyncLocalStorage } from 'node:async_hooks'
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import { isRic4, observeRic4 } from '../../src/middleware/ric4.ts'
import type { Run, Scope } from '../../src/middleware/runtime-client.ts'
import { turn, turns } from './helpers.ts'

const STORE_REQUEST_ID = Symbol.for('_AWS_LAMBDA_REQUEST_ID')
const globals = globalThis as any

const reset = () => {
  delete globals.awslambda
}
beforeEach(reset)
afterEach(reset)

const observe = (isAlone = true) => {
  const scopes = new AsyncLocalStorage<Scope>()
  const ended: string[] = []
  const waits = new Map<string, Promise<void>>()
  const log = { warnOnce: jest.fn() }
  const onEnd = ({ id }: Run) => {
    ended.push(id)
    return waits.get(id)
  }
  const client = observeRic4(scopes, onEnd, isAlone, log)
  const isGated = (requestId: string) => client.runOf?.(requestId) !== undefined && client.isGated?.()
  const isTold = (requestId: string) => client.runOf?.(requestId)?.id === requestId
  const isBusy = () => client.isBusy?.()
  return { client, isGated, isTold, isBusy, scopes, ended, waits, log }
}

/** RIC 4's store outside Managed Instances: a plain field. */
const createStore = () => {
  let context: any
  return {
    run(given: any, fn: () => any) {
      context = given
      return fn()
    },
    getRequestId: () => context?.[STORE_REQUEST_ID] as string | undefined,
  }
}

const deferred = <Value = void>() => Promise.withResolvers<Value>()

describe('RIC 4 is told', () => {
  it.each<[string, unknown, boolean]>([
    ['by the global that it makes', { streamifyResponse() {} }, true],
    ['from a library that has made the store alone', { InvokeStore: createStore() }, false],
    ['from nothing at all', undefined, false],
    ['from a global that is switched off', null, false],
  ])('%s', (_, global, expected) => {
    if (global !== undefined) globals.awslambda = global
    expect(isRic4()).toBe(expected)
  })
})

describe('RIC 4', () => {
  const start = (store: any = undefined, isAlone = true) => {
    globals.awslambda = { streamifyResponse: () => {}, ...(store && { InvokeStore: store }) }
    return observe(isAlone)
  }

  /** As the client does, one invocation after the other: `await awslambda.InvokeStore.run(store, fn)`. */
  const invoke = (requestId: string, fn: () => any = async () => 'posted') =>
    globals.awslambda.InvokeStore.run({ [STORE_REQUEST_ID]: requestId }, fn)

  it('has a gate', () => {
    expect(start().client).toMatchObject({ isGated: expect.any(Function), runOf: expect.any(Function) })
  })

  it.each([
    ['made at the first invocation', false],
    ['there before', true],
  ])('tells the end of an invocation, with a store %s', async (_, isThere) => {
    const { isTold, isGated, isBusy, ended } = start(isThere ? createStore() : undefined)
    if (!isThere) globals.awslambda.InvokeStore = createStore()
    const posted = deferred<string>()
    const seen: unknown[] = []
    const run = invoke('r1', async () => {
      seen.push(isTold('r1'), isGated('r1'), isGated('other'), isBusy())
      return posted.promise
    })
    await turns(3)
    expect(seen).toEqual([true, true, false, true])
    expect(ended).toEqual([])
    posted.resolve('answer')
    expect(await run).toBe('answer')
    expect(ended).toEqual(['r1'])
    expect(isBusy()).toBe(false)
    expect([isTold('r1'), isGated('r1')]).toEqual([false, false])
  })

  it('is kept from its next invocation until the promise of the end is fulfilled', async () => {
    const { waits } = start(createStore())
    const settled = deferred()
    waits.set('r1', settled.promise)
    let isDone = false
    const run = invoke('r1').then((value: unknown) => {
      isDone = true
      return value
    })
    await turns(5)
    expect(isDone).toBe(false)
    settled.resolve()
    expect(await run).toBe('posted')
  })

  it('gets the rejection of a failed invocation, after its end was told', async () => {
    const { ended } = start(createStore())
    const error = new Error('handler')
    await expect(invoke('r1', () => Promise.reject(error))).rejects.toBe(error)
    expect(ended).toEqual(['r1'])
  })

  it('gets what a run returns or throws at once, and nothing is left of it', async () => {
    const { isBusy, log } = start(createStore())
    expect(invoke('r1', () => 42)).toBe(42)
    expect(() =>
      invoke('r2', () => {
        throw new Error('at once')
      }),
    ).toThrow('at once')
    expect(isBusy()).toBe(false)
    await invoke('r3')
    expect(log.warnOnce).not.toHaveBeenCalled()
  })

  it('a run inside a run passes through, and is told nothing of', async () => {
    const { isGated, ended, waits, log } = start(createStore())
    waits.set('inner', deferred().promise) // for ever, were it asked for
    await invoke('r1', async () => {
      const inner = await globals.awslambda.InvokeStore.run({ [STORE_REQUEST_ID]: 'inner' }, async () => 'inner')
      expect(inner).toBe('inner')
      expect([isGated('r1'), isGated('inner')]).toEqual([true, false])
      return 'posted'
    })
    expect(ended).toEqual(['r1'])
    expect(log.warnOnce).not.toHaveBeenCalled()
  })

  it('a run with the same id inside a run, as a copy of the context, passes through, too', async () => {
    const { ended } = start(createStore())
    await invoke('r1', () => invoke('r1', async () => 'inner'))
    expect(ended).toEqual(['r1'])
  })

  it('that does not wait for the promise is found out once, and has no gate from then on', async () => {
    const { isGated, isTold, waits, ended, log } = start(createStore())
    const settled = deferred()
    waits.set('r1', settled.promise)
    const first = invoke('r1')
    await turns(3)
    expect(log.warnOnce).not.toHaveBeenCalled()
    const gated: unknown[] = []
    for (const id of ['r2', 'r3']) {
      await invoke(id, async () => {
        gated.push(isGated(id), isTold(id))
      })
    }
    expect(log.warnOnce.mock.calls).toEqual(
      Array(2).fill(['WARN_GATE', 'the runtime client does not wait for InvokeStore.run']), // of which one is logged
    )
    expect(gated).toEqual([false, true, false, true])
    settled.resolve()
    await first
    expect(ended).toEqual(['r1', 'r2', 'r3'])
    await invoke('r4', async () => gated.push(isGated('r4')))
    expect(gated.at(-1)).toBe(false)
  })

  it('on Managed Instances runs many at once, and that is no broken gate', async () => {
    const storage = new AsyncLocalStorage<any>()
    const store = {
      run: (context: any, fn: () => any) => storage.run(context, fn),
      getRequestId: () => storage.getStore()?.[STORE_REQUEST_ID],
    }
    const { isTold, ended, log } = start(store, false)
    const inside: boolean[] = []
    const invocation = (id: string, pace: number) =>
      invoke(id, async () => {
        await turns(pace)
        inside.push(isTold(id))
      })
    await Promise.all([invocation('r1', 5), invocation('r2', 1), invocation('r3', 3)])
    expect(ended).toEqual(['r2', 'r3', 'r1'])
    expect(inside).toEqual([true, true, true])
    expect(log.warnOnce).not.toHaveBeenCalled()
  })

  it('a store that replaces another is observed, one that is set again is not observed twice', async () => {
    const { ended } = start(createStore())
    await invoke('r1')
    const store = createStore()
    globals.awslambda.InvokeStore = store
    expect(globals.awslambda.InvokeStore).toBe(store)
    await invoke('r2')
    // biome-ignore lint/correctness/noSelfAssign: that is the point
    globals.awslambda.InvokeStore = globals.awslambda.InvokeStore
    await invoke('r3')
    expect(ended).toEqual(['r1', 'r2', 'r3'])
  })

  it.each<[string, any]>([
    ['undefined', undefined],
    ['null', null],
    ['without run', { getRequestId: () => 'r1' }],
  ])('a store that is none (%s) breaks nothing', (_, store) => {
    start()
    expect(() => {
      globals.awslambda.InvokeStore = store
    }).not.toThrow()
    expect(globals.awslambda.InvokeStore).toBe(store)
    expect(globals.awslambda.InvokeStore?.run).toBeUndefined()
  })

  it('a store without run that is there before breaks nothing', () => {
    const store = { getRequestId: () => 'r1' }
    expect(() => start(store)).not.toThrow()
    expect(globals.awslambda.InvokeStore.run).toBeUndefined()
  })

  it('an id that the store learns within run is the one that counts', async () => {
    const { ended, isGated } = start(createStore())
    await invoke('r1')
    let isInside: boolean | undefined
    await invoke('r2', async () => {
      await turn()
      isInside = isGated('r2') && !isGated('r1')
    })
    expect(isInside).toBe(true)
    expect(ended).toEqual(['r1', 'r2'])
  })

  it('a store whose getRequestId throws costs the invocation nothing', async () => {
    const store = {
      ...createStore(),
      getRequestId: () => {
        throw new Error('no context')
      },
    }
    start(store)
    expect(await invoke('r1')).toBe('posted')
  })

  it('has no run of an invocation that is over, asked for by a callback left over from it', async () => {
    const { isGated, isTold } = start(createStore())
    const strike = deferred()
    let leftOver: Promise<unknown[]> | undefined
    await invoke('r1', async () => {
      leftOver = strike.promise.then(() => [isGated('r1'), isTold('r1')])
    })
    await invoke('r2', async () => {
      strike.resolve()
      await turns(3)
    })
    expect(await leftOver).toEqual([false, false])
  })

  it('says in which invocation it was looked at for the first time', async () => {
    const store = createStore()
    const first = start(store)
    expect(first.client.firstUsedIn).toBeUndefined()
    reset()
    // At init its store answers with an id of its own: only inside an invocation it has a context.
    const atInit = { ...createStore(), hasContext: () => false, getRequestId: () => 'made up' }
    expect(start(atInit).client.firstUsedIn).toBeUndefined()
    reset()
    const inside = { ...createStore(), hasContext: () => true, getRequestId: () => 'r1' }
    expect(start(inside).client.firstUsedIn).toBe('r1')
  })
})
