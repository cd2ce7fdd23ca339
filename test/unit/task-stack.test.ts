import { describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { createTaskStack } from '../../src/middleware/task-stack.ts'
import { randomRuns } from '../support/random-runs.ts'
import { turn } from './helpers.ts'

const always = () => true

/** Runs entries by name and records starts and ends, and how many were running at most. */
const recorder = (options: { order?: 'lifo' | 'fifo'; concurrency?: number; turns?: number } = {}) => {
  const { order = 'lifo', concurrency = 1, turns = 1 } = options
  const started: string[] = []
  const ended: string[] = []
  let most = 0
  const stack = createTaskStack<string>({ order, concurrency }, always, async entry => {
    started.push(entry)
    most = Math.max(most, started.length - ended.length)
    for (let index = 0; index < turns; index++) await turn()
    ended.push(entry)
  })
  return { stack, started, ended, most: () => most }
}

describe('order', () => {
  it.each([
    ['lifo', ['c', 'b', 'a']],
    ['fifo', ['a', 'b', 'c']],
  ] as const)('runs %s', async (order, expected) => {
    const { stack, started } = recorder({ order })
    for (const entry of ['a', 'b', 'c']) stack.push(entry)
    await stack.drain()
    expect(started).toEqual(expected)
  })

  it('starts nothing inside the call that drains or pushes', async () => {
    const { stack, started } = recorder()
    stack.push('a')
    const drained = stack.drain()
    stack.push('b')
    expect(started).toEqual([])
    await drained
    expect(started).toEqual(['b', 'a'])
  })

  it.each([
    ['lifo', ['c', 'new', 'b', 'a']],
    ['fifo', ['a', 'b', 'c', 'new']],
  ] as const)('puts what is pushed meanwhile where %s has it', async (order, expected) => {
    const started: string[] = []
    const stack = createTaskStack<string>({ order, concurrency: 1 }, always, async entry => {
      started.push(entry)
      if (started.length === 1) stack.push('new')
      await turn()
    })
    for (const entry of ['a', 'b', 'c']) stack.push(entry)
    await stack.drain()
    expect(started).toEqual(expected)
  })

  it('keeps first in, first out across pushes and takes in turn', async () => {
    const { stack, started } = recorder({ order: 'fifo' })
    const expected: string[] = []
    for (let round = 0; round < 5; round++) {
      for (let index = 0; index <= round; index++) {
        expected.push(`${round}.${index}`)
        stack.push(`${round}.${index}`)
      }
      await stack.drain()
    }
    expect(started).toEqual(expected)
  })
})

describe('concurrency', () => {
  it.each([
    [1, 10, 1],
    [3, 10, 3],
    [10, 3, 3],
    [Number.MAX_SAFE_INTEGER, 10, 10],
  ])('%i at a time, of %i entries, runs %i at a time', async (concurrency, count, expected) => {
    const { stack, ended, most } = recorder({ concurrency })
    for (let index = 0; index < count; index++) stack.push(String(index))
    await stack.drain()
    expect(ended).toHaveLength(count)
    expect(most()).toBe(expected)
  })

  it('uses a free place for what is pushed while draining', async () => {
    const { stack, ended, most } = recorder({ concurrency: 3, turns: 3 })
    stack.push('a')
    const drained = stack.drain()
    await turn()
    for (const entry of ['b', 'c', 'd']) stack.push(entry)
    await drained
    expect(ended.sort()).toEqual(['a', 'b', 'c', 'd'])
    expect(most()).toBe(3)
  })

  it('is not exceeded by a drain during a drain', async () => {
    const { stack, started, most } = recorder({ concurrency: 2 })
    for (const entry of ['a', 'b', 'c', 'd', 'e', 'f']) stack.push(entry)
    await Promise.all([stack.drain(), stack.drain(), turn().then(() => stack.drain())])
    expect(started).toHaveLength(6)
    expect(most()).toBe(2)
  })
})

describe('drain', () => {
  it('resolves when there is nothing', async () => {
    const { stack } = recorder()
    await expect(stack.drain()).resolves.toBeUndefined()
  })

  it('runs again what is pushed after it has resolved', async () => {
    const { stack, started } = recorder()
    stack.push('a')
    await stack.drain()
    stack.push('b')
    await turn()
    expect(started).toEqual(['a'])
    await stack.drain()
    expect(started).toEqual(['a', 'b'])
    await stack.drain()
    expect(started).toEqual(['a', 'b'])
  })

  it('resolves only once the last entry has ended, also one that another pushed', async () => {
    let left = 3
    const stack = createTaskStack<number>({ order: 'lifo', concurrency: 2 }, always, async depth => {
      if (depth < 2) stack.push(depth + 1)
      await turn()
      await turn()
      left--
    })
    stack.push(0)
    await stack.drain()
    expect(left).toBe(0)
    expect(stack.size()).toBe(0)
  })
})

describe('100,000 entries', () => {
  const COUNT = 100_000

  /** How many elements of arrays are moved, copied or looked through by methods that do so, while `act` runs. */
  const countTouched = async (act: () => Promise<void>) => {
    let touched = 0
    const names = ['shift', 'unshift', 'splice', 'slice', 'concat', 'indexOf', 'includes', 'filter', 'find'] as const
    const originals = names.map(name => [name, Array.prototype[name]] as const)
    for (const [name, original] of originals) {
      Array.prototype[name] = function (this: unknown[], ...args: never[]) {
        touched += this.length
        return (original as any).apply(this, args)
      } as never
    }
    try {
      await act()
    } finally {
      for (const [name, original] of originals) Array.prototype[name] = original as never
    }
    return touched
  }

  it('is counted by what counts', async () => {
    expect(await countTouched(async () => void [1, 2, 3].slice(1))).toBe(3)
  })

  it.each(['lifo', 'fifo'] as const)('are run %s without a move or a scan of those that wait', async order => {
    let runs = 0
    let sum = 0
    const stack = createTaskStack<{ index: number }>({ order, concurrency: 4 }, always, ({ index }) => {
      runs++
      sum += index
      return index % 2 ? Promise.resolve() : undefined
    })
    const touched = await countTouched(async () => {
      for (let index = 0; index < COUNT; index++) stack.push({ index })
      await stack.drain()
    })
    expect(runs).toBe(COUNT)
    expect(sum).toBe((COUNT * (COUNT - 1)) / 2)
    expect(stack.size()).toBe(0)
    expect(touched).toBeLessThan(10 * COUNT)
  })

  it.each(['lifo', 'fifo'] as const)('run %s as a chain, each pushing the next', async order => {
    let runs = 0
    const stack = createTaskStack<{ index: number }>({ order, concurrency: 1 }, always, ({ index }) => {
      runs++
      if (index + 1 < COUNT) stack.push({ index: index + 1 })
      return undefined
    })
    stack.push({ index: 0 })
    await stack.drain()
    expect(runs).toBe(COUNT)
  })
})

describe('what waits', () => {
  it.each([
    ['lifo', ['c', 'b'], ['d', 'a']],
    ['fifo', ['b', 'c'], ['a', 'd']],
  ] as const)(
    'is taken out in the order in which it would start, %s, and the others stay',
    async (order, out, left) => {
      const { stack, started } = recorder({ order })
      for (const entry of ['a', 'b', 'c', 'd']) stack.push(entry)
      expect(stack.size()).toBe(4)
      const asked: string[] = []
      expect(stack.takeOut(entry => asked.push(entry) === 2 || entry === 'c')).toEqual(out)
      expect(asked).toEqual(['a', 'b', 'c', 'd'])
      expect(stack.size()).toBe(2)
      await stack.drain()
      expect(started).toEqual(left)
    },
  )

  it.each(['lifo', 'fifo'] as const)('does not contain what has started, %s', async order => {
    const { stack } = recorder({ order })
    for (const entry of ['a', 'b', 'c']) stack.push(entry)
    const drained = stack.drain()
    await turn()
    expect(stack.size()).toBe(3 - 1)
    expect(stack.takeOut(() => true)).toHaveLength(2)
    await drained
    expect(stack.takeOut(() => true)).toEqual([])
  })

  it.each(['lifo', 'fifo'] as const)('keeps what is pushed while some are taken out, %s', async order => {
    const { stack, started } = recorder({ order })
    for (const entry of ['a', 'b']) stack.push(entry)
    const push = (entry: string) => {
      if (entry === 'a') stack.push('new')
      return true
    }
    stack.takeOut(push)
    await stack.drain()
    expect(started).toEqual(['new'])
  })

  it.each([
    ['lifo', ['b', 'a']],
    ['fifo', ['a', 'b']],
  ] as const)('is brought into the order in which it is run, %s', (order, expected) => {
    expect(recorder({ order }).stack.inOrder(['a', 'b'])).toEqual(expected)
  })
})

describe('when no more may start', () => {
  it.each([
    ['lifo', ['d', 'c'], ['b', 'a']],
    ['fifo', ['a', 'b'], ['c', 'd']],
  ] as const)('resolves with what has started, and leaves the others where they are, %s', async (order, runs, left) => {
    const started: string[] = []
    let ended = 0
    let most = 2
    const stack = createTaskStack<string>(
      { order, concurrency: 2 },
      () => started.length < most,
      async entry => {
        started.push(entry)
        await turn()
        ended++
      },
    )
    for (const entry of ['a', 'b', 'c', 'd']) stack.push(entry)
    await stack.drain()
    expect(ended).toBe(2)
    expect(started).toEqual(runs)
    expect(stack.size()).toBe(left.length)
    await stack.drain()
    expect(stack.size()).toBe(2)
    most = 4
    await stack.drain()
    expect(started).toEqual([...runs, ...left])
  })
})

describe('for any interleaving', () => {
  type Node = { kind: 'sync' | 'async' | 'rejecting' | 'throwing'; early: Node[]; late: Node[] }

  const { node } = fc.letrec<{ node: Node }>(tie => ({
    node: fc.record({
      kind: fc.constantFrom('sync', 'async', 'rejecting', 'throwing'),
      early: fc.oneof({ depthSize: 'small' }, fc.constant<never[]>([]), fc.array(tie('node'), { maxLength: 3 })),
      late: fc.oneof({ depthSize: 'small' }, fc.constant<never[]>([]), fc.array(tie('node'), { maxLength: 3 })),
    }),
  }))
  /** How many entries come of these: one that throws has pushed only its early ones. */
  const countEntries = (nodes: Node[]): number =>
    nodes.reduce(
      (sum, { kind, early, late }) => sum + 1 + countEntries(early) + (kind === 'throwing' ? 0 : countEntries(late)),
      0,
    )

  it('runs each entry exactly once, and never more than `concurrency` at a time', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.scheduler(),
        fc.constantFrom('lifo' as const, 'fifo' as const),
        fc.integer({ min: 1, max: 4 }),
        fc.array(fc.oneof(node, fc.constantFrom('drain' as const, 'go on' as const)), { maxLength: 12 }),
        async (scheduler, order, concurrency, steps) => {
          const runs = new Map<Node, number>()
          let running = 0
          let most = 0
          const act = async (entry: Node) => {
            for (const child of entry.early) stack.push({ ...child })
            if (entry.kind === 'throwing') throw new Error('thrown')
            await scheduler.schedule(Promise.resolve())
            for (const child of entry.late) stack.push({ ...child })
            if (entry.kind === 'rejecting') throw new Error('rejected')
          }
          const stack = createTaskStack<Node>(
            { order, concurrency },
            always, // As in Invocation: what a task throws stops here.
            entry => {
              runs.set(entry, (runs.get(entry) ?? 0) + 1)
              most = Math.max(most, ++running)
              if (entry.kind !== 'sync') {
                return act(entry).then(
                  () => void running--,
                  () => void running--,
                )
              }
              for (const child of [...entry.early, ...entry.late]) stack.push({ ...child })
              running--
              return undefined
            },
          )
          const drains: Promise<void>[] = []
          for (const step of steps) {
            if (step === 'drain') {
              drains.push(stack.drain())
            } else if (step === 'go on') {
              await turn()
              if (scheduler.count() > 0) await scheduler.waitNext(1)
            } else {
              stack.push({ ...step })
            }
          }
          drains.push(stack.drain())
          await scheduler.waitFor(Promise.all(drains))

          expect([...runs.values()].every(times => times === 1)).toBe(true)
          expect(runs.size).toBe(countEntries(steps.filter(step => typeof step === 'object')))
          expect(most).toBeLessThanOrEqual(concurrency)
          expect(running).toBe(0)
          expect(stack.size()).toBe(0)
        },
      ),
      { numRuns: randomRuns({ seed: 1, runs: 500 }).runs },
    )
  })
})
