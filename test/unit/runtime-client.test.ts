// What the two generations of AWS's runtime client do to the globals, played here; the real ones are run elsewhere.
import { AsyncLocalStorage } from 'node:async_hooks'
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import { observeRuntimeClient, type Scope } from '../../src/middleware/runtime-client.ts'
import { turn, turns } from './helpers.ts'

const BEFORE_EXIT = Symbol.for('aws.lambda.beforeExit')
const REQUEST_ID = Symbol.for('aws.lambda.runtime.requestId')
const STORE_REQUEST_ID = Symbol.for('_AWS_LAMBDA_REQUEST_ID')
const globals = globalThis as any

const reset = () => {
  delete globals.awslambda
  delete globals[BEFORE_EXIT]
  delete globals[REQUEST_ID]
}
beforeEach(reset)
afterEach(reset)

const LAMBDA = { AWS_LAMBDA_RUNTIME_API: '127.0.0.1:9001' }

type Invocation = { name: string }

const observe = (variables: Record<string, string> = LAMBDA, streams: string[] = []) => {
  const scopes = new AsyncLocalStorage<Scope<Invocation>>()
  const ended: string[] = []
  const waits = new Map<string, Promise<void>>()
  const onBrokenGate = jest.fn()
  const client = observeRuntimeClient<Invocation>({
    scopes,
    variables,
    streams: { has: id => streams.includes(id) },
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

describe('outside Lambda', () => {
  it('nothing is looked at', () => {
    globals.awslambda = { streamifyResponse: () => {} }
    const before = Object.getOwnPropertyDescriptors(globals.awslambda)
    const { client } = observe({})
    expect(client.gate).toEqual({ available: false })
    expect([client.willTell('r1'), client.isGated('r1'), client.isBusy()]).toEqual([false, false, undefined])
    expect(Object.getOwnPropertyDescriptors(globals.awslambda)).toEqual(before)
  })
})

describe('a client that tells nothing', () => {
  it.each<[string, Record<string, string>, unknown]>([
    ['nodejs22.x', { AWS_EXECUTION_ENV: 'AWS_Lambda_nodejs22.x' }, { available: false }],
    ['an image of its own', {}, { available: false }],
    ['Python', { AWS_EXECUTION_ENV: 'AWS_Lambda_python3.13' }, { available: false }],
    [
      'nodejs24.x with its global switched off',
      { AWS_EXECUTION_ENV: 'AWS_Lambda_nodejs24.x' },
      {
        available: false,
        anomaly: 'AWS_EXECUTION_ENV names Node.js 24 or later, but the global awslambda is switched off',
      },
    ],
    [
      'nodejs26.x, likewise',
      { AWS_EXECUTION_ENV: 'AWS_Lambda_nodejs26.x' },
      { available: false, anomaly: expect.stringContaining('switched off') },
    ],
  ])('%s', (_, variables, gate) => {
    const { client } = observe({ ...LAMBDA, ...variables })
    expect(client.gate).toEqual(gate)
    expect([client.willTell('r1'), client.isGated('r1')]).toEqual([false, false])
  })

  it('although a library has made the store: its presence proves nothing', () => {
    const store = createStore()
    globals.awslambda = { InvokeStore: store }
    const { run } = store
    const { client } = observe()
    expect(client.gate).toEqual({ available: false })
    expect(store.run).toBe(run)
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
    expect(start().client.gate).toEqual({ available: true })
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
})

describe('RIC 3', () => {
  const idle = jest.fn()
  const waiting = jest.fn()
  beforeEach(() => {
    idle.mockClear()
    waiting.mockClear()
  })

  let accessor: PropertyDescriptor
  const start = (variables: Record<string, string> = LAMBDA, streams: string[] = []) => {
    globals[BEFORE_EXIT] = idle
    const spy = jest.spyOn(Object, 'defineProperty')
    const observed = observe(variables, streams)
    accessor = spy.mock.calls.find(([, property]) => property === BEFORE_EXIT)?.[2] ?? {}
    spy.mockRestore()
    return observed
  }
  // By the accessor itself: Jest's global reads a property each time it is set, and that reading has a meaning here.
  const set = (listener: () => void) => accessor.set?.(listener)
  /** As its listener of the process' `beforeExit` does. */
  const runEmpty = () => accessor.get?.()()
  /** What the client does to the globals, and when. */
  const begin = (requestId: string) => {
    globals[REQUEST_ID] = requestId
    set(waiting)
  }
  const post = () => set(idle)

  it('has no gate, and says so where the environment promises one', () => {
    expect(start().client.gate).toEqual({ available: false })
    reset()
    expect(start({ ...LAMBDA, AWS_EXECUTION_ENV: 'AWS_Lambda_nodejs24.x' }).client.gate).toEqual({
      available: false,
      anomaly: 'AWS_EXECUTION_ENV names Node.js 24 or later, but the runtime client is of the generation before',
    })
  })

  it('calls what it has set, each time', () => {
    start()
    runEmpty()
    expect([idle, waiting].map(({ mock }) => mock.calls.length)).toEqual([1, 0])
    begin('r1')
    runEmpty()
    runEmpty()
    expect([idle, waiting].map(({ mock }) => mock.calls.length)).toEqual([1, 2])
    post()
    runEmpty()
    expect([idle, waiting].map(({ mock }) => mock.calls.length)).toEqual([2, 2])
  })

  it('has a process that runs empty between invocations, which ends nothing', async () => {
    const { ended } = start()
    runEmpty()
    await turns(5)
    begin('r1')
    post()
    await turns(5)
    runEmpty()
    await turns(5)
    expect(ended).toEqual(['r1'])
  })

  it('tells the end one turn after it has reset the global', async () => {
    const { client, ended } = start()
    begin('r1')
    expect([client.willTell('r1'), client.willTell('r2'), client.isGated('r1'), client.isBusy()]).toEqual([
      true,
      false,
      false,
      true,
    ])
    await turns(5)
    expect(ended).toEqual([])
    post()
    expect(ended).toEqual([])
    await turn()
    expect(ended).toEqual(['r1'])
    expect([client.willTell('r1'), client.isBusy()]).toEqual([false, false])
  })

  it('tells each invocation once, one after the other, also with the same id', async () => {
    const { ended } = start()
    for (const id of ['r1', 'r2', 'r2']) {
      begin(id)
      await turn()
      post()
      await turns(3)
    }
    expect(ended).toEqual(['r1', 'r2', 'r2'])
  })

  it('resets its global twice, and still tells it once', async () => {
    const { ended } = start()
    begin('r1')
    post()
    post()
    await turns(5)
    expect(ended).toEqual(['r1'])
  })

  it('sets it again in the same turn for a callback: its end comes after the loop has run empty', async () => {
    const { client, ended } = start()
    begin('r1')
    post()
    set(waiting)
    await turns(5)
    expect(ended).toEqual([])
    expect(client.willTell('r1')).toBe(true)
    runEmpty() // the client posts one turn later
    expect(ended).toEqual([])
    await turns(5)
    expect(ended).toEqual(['r1'])
  })

  it('sets it again for a stream, too: that has left before', async () => {
    const { ended } = start(LAMBDA, ['r1'])
    begin('r1')
    post()
    set(waiting)
    await turns(5)
    expect(ended).toEqual(['r1'])
  })
})
