// What the runtime client of nodejs24.x does to its global, played here; the real one is run elsewhere.
import { AsyncLocalStorage } from 'node:async_hooks'
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import { isRic4, observeRic4 } from '../../src/middleware/ric4.ts'
import type { Scope } from '../../src/middleware/runtime-client.ts'
import { turn, turns } from './helpers.ts'

const STORE_REQUEST_ID = Symbol.for('_AWS_LAMBDA_REQUEST_ID')
const globals = globalThis as any

const reset = () => {
  delete globals.awslambda
}
beforeEach(reset)
afterEach(reset)

const LAMBDA = { AWS_LAMBDA_RUNTIME_API: '127.0.0.1:9001' }

const observe = (variables: Record<string, string> = LAMBDA) => {
  const scopes = new AsyncLocalStorage<Scope>()
  const ended: string[] = []
  const waits = new Map<string, Promise<void>>()
  const onBrokenGate = jest.fn()
  const client = observeRic4({
    scopes: () => scopes,
    variables,
    streams: { has: () => false },
    onEnd: requestId => {
      ended.push(requestId)
      return waits.get(requestId)
    },
    onBrokenGate,
  })
  return { client, scopes, ended, waits, onBrokenGate }
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
  const start = (variables: Record<string, string> = LAMBDA, store: any = undefined) => {
    globals.awslambda = { streamifyResponse: () => {}, ...(store && { InvokeStore: store }) }
    return observe(variables)
  }

  /** As the client does, one invocation after the other: `await awslambda.InvokeStore.run(store, fn)`. */
  const invoke = (requestId: string, fn: () => any = async () => 'posted') =>
    globals.awslambda.InvokeStore.run({ [STORE_REQUEST_ID]: requestId }, fn)

  it('has a gate', () => {
    expect(start().client).toMatchObject({ hasGate: true, tellsEnds: true, mayCrash: false })
  })

  it.each([
    ['made at the first invocation', false],
    ['there before', true],
  ])('tells the end of an invocation, with a store %s', async (_, isThere) => {
    const { client, ended } = start(LAMBDA, isThere ? createStore() : undefined)
    if (!isThere) globals.awslambda.InvokeStore = createStore()
    const posted = deferred<string>()
    const seen: unknown[] = []
    const run = invoke('r1', async () => {
      seen.push(client.willTell('r1'), client.isGated('r1'), client.isGated('other'), client.isBusy())
      return posted.promise
    })
    await turns(3)
    expect(seen).toEqual([true, true, false, true])
    expect(ended).toEqual([])
    posted.resolve('answer')
    expect(await run).toBe('answer')
    expect(ended).toEqual(['r1'])
    expect(client.isBusy()).toBe(false)
    expect([client.willTell('r1'), client.isGated('r1')]).toEqual([false, false])
  })

  it('is kept from its next invocation until the promise of the end is fulfilled', async () => {
    const { waits } = start(LAMBDA, createStore())
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
    const { ended } = start(LAMBDA, createStore())
    const error = new Error('handler')
    await expect(invoke('r1', () => Promise.reject(error))).rejects.toBe(error)
    expect(ended).toEqual(['r1'])
  })

  it('gets what a run returns or throws at once, and nothing is left of it', async () => {
    const { client, onBrokenGate } = start(LAMBDA, createStore())
    expect(invoke('r1', () => 42)).toBe(42)
    expect(() =>
      invoke('r2', () => {
        throw new Error('at once')
      }),
    ).toThrow('at once')
    expect(client.isBusy()).toBe(false)
    await invoke('r3')
    expect(onBrokenGate).not.toHaveBeenCalled()
  })

  it('a run inside a run passes through, and is told nothing of', async () => {
    const { client, ended, waits, onBrokenGate } = start(LAMBDA, createStore())
    waits.set('inner', deferred().promise) // for ever, were it asked for
    await invoke('r1', async () => {
      const inner = await globals.awslambda.InvokeStore.run({ [STORE_REQUEST_ID]: 'inner' }, async () => 'inner')
      expect(inner).toBe('inner')
      expect([client.isGated('r1'), client.isGated('inner')]).toEqual([true, false])
      return 'posted'
    })
    expect(ended).toEqual(['r1'])
    expect(onBrokenGate).not.toHaveBeenCalled()
  })

  it('a run with the same id inside a run, as a copy of the context, passes through, too', async () => {
    const { ended } = start(LAMBDA, createStore())
    await invoke('r1', () => invoke('r1', async () => 'inner'))
    expect(ended).toEqual(['r1'])
  })

  it('that does not wait for the promise is found out once, and has no gate from then on', async () => {
    const { client, waits, ended, onBrokenGate } = start(LAMBDA, createStore())
    const settled = deferred()
    waits.set('r1', settled.promise)
    const first = invoke('r1')
    await turns(3)
    expect(onBrokenGate).not.toHaveBeenCalled()
    const gated: boolean[] = []
    for (const id of ['r2', 'r3']) {
      await invoke(id, async () => {
        gated.push(client.isGated(id), client.willTell(id))
      })
    }
    expect(onBrokenGate).toHaveBeenCalledTimes(1)
    expect(gated).toEqual([false, true, false, true])
    settled.resolve()
    await first
    expect(ended).toEqual(['r1', 'r2', 'r3'])
    await invoke('r4', async () => gated.push(client.isGated('r4')))
    expect(gated.at(-1)).toBe(false)
  })

  it('on Managed Instances runs many at once, and that is no broken gate', async () => {
    const storage = new AsyncLocalStorage<any>()
    const store = {
      run: (context: any, fn: () => any) => storage.run(context, fn),
      getRequestId: () => storage.getStore()?.[STORE_REQUEST_ID],
    }
    const { client, ended, onBrokenGate } = start({ ...LAMBDA, AWS_LAMBDA_MAX_CONCURRENCY: '8' }, store)
    const inside: boolean[] = []
    const invocation = (id: string, pace: number) =>
      invoke(id, async () => {
        await turns(pace)
        inside.push(client.willTell(id))
      })
    await Promise.all([invocation('r1', 5), invocation('r2', 1), invocation('r3', 3)])
    expect(ended).toEqual(['r2', 'r3', 'r1'])
    expect(inside).toEqual([true, true, true])
    expect(onBrokenGate).not.toHaveBeenCalled()
  })

  it('a store that replaces another is observed, one that is set again is not observed twice', async () => {
    const { ended } = start(LAMBDA, createStore())
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
    expect(() => start(LAMBDA, store)).not.toThrow()
    expect(globals.awslambda.InvokeStore.run).toBeUndefined()
  })

  it('an id that the store learns within run is the one that counts', async () => {
    const { ended, client } = start(LAMBDA, createStore())
    await invoke('r1')
    let isInside: boolean | undefined
    await invoke('r2', async () => {
      await turn()
      isInside = client.isGated('r2') && !client.isGated('r1')
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
    start(LAMBDA, store)
    expect(await invoke('r1')).toBe('posted')
  })

  it('a callback left over from an earlier invocation is not inside a later one', async () => {
    const { client } = start(LAMBDA, createStore())
    const strike = deferred()
    let leftOver: Promise<boolean> | undefined
    await invoke('r1', async () => {
      leftOver = strike.promise.then(() => client.isGated('r2') || client.willTell('r2'))
    })
    await invoke('r2', async () => {
      strike.resolve()
      await turns(3)
    })
    expect(await leftOver).toBe(false)
  })

  it('says in which invocation it was looked at for the first time', async () => {
    const store = createStore()
    const first = start(LAMBDA, store)
    expect(first.client.firstUsedIn).toBeUndefined()
    reset()
    // At init its store answers with an id of its own: only inside an invocation it has a context.
    const atInit = { ...createStore(), hasContext: () => false, getRequestId: () => 'made up' }
    expect(start(LAMBDA, atInit).client.firstUsedIn).toBeUndefined()
    reset()
    const inside = { ...createStore(), hasContext: () => true, getRequestId: () => 'r1' }
    expect(start(LAMBDA, inside).client.firstUsedIn).toBe('r1')
  })
})
