// What the runtime client of nodejs22.x does to its global, played here; the real one is run elsewhere.
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import { isRic3, observeRic3 } from '../../src/middleware/ric3.ts'
import { turn, turns } from './helpers.ts'

const BEFORE_EXIT = Symbol.for('aws.lambda.beforeExit')
const REQUEST_ID = Symbol.for('aws.lambda.runtime.requestId')
const globals = globalThis as any

const reset = () => {
  process.removeAllListeners('beforeExit')
  delete globals[BEFORE_EXIT]
  delete globals[REQUEST_ID]
}
beforeEach(reset)
afterEach(reset)

const observe = (streams: string[] = []) => {
  const ended: string[] = []
  const client = observeRic3({ has: id => streams.includes(id) }, ({ id }) => {
    ended.push(id)
    return undefined
  })
  return { client, ended }
}

describe('RIC 3', () => {
  const idle = jest.fn()
  const waiting = jest.fn()
  beforeEach(() => {
    idle.mockClear()
    waiting.mockClear()
  })

  let accessor: PropertyDescriptor
  const start = (streams: string[] = []) => {
    globals[BEFORE_EXIT] = idle
    const spy = jest.spyOn(Object, 'defineProperty')
    const observed = observe(streams)
    accessor = spy.mock.calls.find(([, property]) => property === BEFORE_EXIT)?.[2] ?? {}
    spy.mockRestore()
    return observed
  }
  // By the accessor itself: Jest's global reads a property each time it is set, and that reading has a meaning here.
  const set = (listener: () => void) => accessor.set?.(listener)
  /** Its own listener comes first. */
  const runEmpty = () => {
    accessor.get?.()()
    process.emit('beforeExit', 0)
  }
  /** What the client does to the globals, and when. */
  const begin = (requestId: string) => {
    globals[REQUEST_ID] = requestId
    set(waiting)
  }
  const post = () => set(idle)

  it('has no gate', () => {
    expect(isRic3()).toBe(false)
    const { client } = start()
    expect(isRic3()).toBe(true)
    expect(client).toMatchObject({ runOf: expect.any(Function) })
    expect([client.firstUsedIn, client.isGated]).toEqual([undefined, undefined])
    expect([client.runOf?.('r1'), client.isBusy?.()]).toEqual([undefined, false])
  })

  it('looked at for the first time inside an invocation tells no ends: what it sets between two is not known', () => {
    globals[BEFORE_EXIT] = waiting
    globals[REQUEST_ID] = 'r1'
    const { client } = observe()
    expect(client).toEqual({ firstUsedIn: 'r1' })
    expect(Object.getOwnPropertyDescriptor(globals, BEFORE_EXIT)).toHaveProperty('value', waiting)
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
    // Its only one, whatever id a handler has been given.
    expect([client.runOf?.('r1'), client.runOf?.(), client.isBusy?.()]).toEqual([{ id: 'r1' }, { id: 'r1' }, true])
    await turns(5)
    expect(ended).toEqual([])
    post()
    expect(ended).toEqual([])
    await turn()
    expect(ended).toEqual(['r1'])
    expect([client.runOf?.('r1'), client.isBusy?.()]).toEqual([undefined, false])
  })

  it('tells each invocation once, one after the other, also with the same id', async () => {
    const { client, ended } = start()
    const runs = new Set<unknown>()
    for (const id of ['r1', 'r2', 'r2']) {
      begin(id)
      runs.add(client.runOf?.(id))
      await turn()
      post()
      await turns(3)
    }
    expect(ended).toEqual(['r1', 'r2', 'r2'])
    expect(runs.size).toBe(3)
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
    const run = client.runOf?.('r1')
    post()
    set(waiting)
    await turns(5)
    expect(ended).toEqual([])
    expect(client.runOf?.('r1')).toBe(run)
    runEmpty() // the client posts one turn later
    expect(ended).toEqual([])
    await turns(5)
    expect(ended).toEqual(['r1'])
  })

  it('sets it again for a stream, too: that has left before', async () => {
    const { ended } = start(['r1'])
    begin('r1')
    post()
    set(waiting)
    await turns(5)
    expect(ended).toEqual(['r1'])
  })
})
