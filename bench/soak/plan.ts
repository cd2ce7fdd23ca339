// What each environment and each invocation is to do: drawn by lot, and the same again from the same seed.
import type { Combination } from './settings.ts'

/** A task as the function's event gives it; bench/soak/function/work.mjs says what each kind does. */
export type TaskPlan = {
  readonly name: string
  readonly kind: string
  readonly ms?: number
  readonly on?: 'success' | 'error'
  readonly timeout?: number
  readonly imported?: boolean
  readonly inner?: readonly TaskPlan[]
}

export type Event = {
  readonly n: number
  tasks: TaskPlan[]
  bodyTasks?: TaskPlan[]
  memory?: boolean
  wait?: number
  throws?: boolean
  exits?: boolean
  hangs?: boolean
  early?: string
  chunks?: number
  chunkLength?: number
  chunkWait?: number
  bodyThrows?: boolean
}

/** When the driver kills a process with SIGKILL. */
export type Kill = {
  readonly process: 'function' | 'companion'
  readonly at:
    | { readonly step: 'handler' | 'start'; readonly name: string }
    | { readonly milliseconds: number }
    | 'idle'
}

export type InvocationPlan = {
  readonly event: Event
  /** `either`: it depends on when a kill comes. */
  answer: 'response' | 'error' | 'either'
  outcome: 'success' | 'error'
  kill?: Kill
  /** Whether the process or the environment may end with it. */
  isFatal: boolean
}

/** One function, from its first environment to its shutdown. */
export type Life = {
  readonly number: number
  readonly invocations: number
  readonly streamed: boolean
  /** Without faults: there memory is measured. */
  readonly calm: boolean
  readonly hooks: boolean
  readonly order: 'lifo' | 'fifo'
  readonly concurrency: 1 | 3
}

/** So short that tasks which never end can be waited for, again and again. */
export const TIMEOUT_MS = 1_500

const FAULTS = 0.05
const ROUGH_INVOCATIONS = 200
/** Long enough to measure memory; longer where nothing else is wanted. */
const CALM_INVOCATIONS = { withFaults: 4_000, without: 10_000 }
/** After each calm life, so that both have about as many invocations. */
const ROUGH_LIVES = 10

export type Lot = {
  /** Below 1. */
  draw(): number
  /** From 0 to below `end`. */
  below(end: number): number
  chance(probability: number): boolean
  pick<Value>(values: readonly Value[]): Value
}

/** mulberry32: small, quick, and good enough to mix. */
export const createLot = (seed: number): Lot => {
  let state = seed | 0
  const draw = () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const below = (end: number) => Math.floor(draw() * end)
  return {
    draw,
    below,
    chance: probability => draw() < probability,
    pick: values => values[below(values.length)] as (typeof values)[number],
  }
}

export const planLife = (lot: Lot, number: number, left: number, total: number, faults: boolean): Life => {
  const calm = !faults || number % (ROUGH_LIVES + 1) === 0
  const longest = faults ? Math.min(CALM_INVOCATIONS.withFaults, Math.ceil(total / 3)) : CALM_INVOCATIONS.without
  const wanted = calm ? longest : ROUGH_INVOCATIONS
  return {
    number,
    invocations: Math.min(wanted, left),
    streamed: calm ? lot.chance(0.25) : lot.chance(0.4),
    calm,
    hooks: lot.chance(0.5),
    order: lot.pick(['lifo', 'lifo', 'fifo']),
    concurrency: lot.pick([1, 1, 3]),
  }
}

export const planInvocation = (lot: Lot, { companion }: Combination, life: Life, n: number): InvocationPlan => {
  const event: Event = { n, tasks: planTasks(lot, `${life.number}.${n}`) }
  const plan: InvocationPlan = { event, answer: 'response', outcome: 'success', isFatal: false }
  if (lot.chance(0.3)) event.wait = 1 + lot.below(3)
  if (life.streamed) planBody(lot, plan, life)
  const drawn = lot.draw()
  if (!life.calm && drawn < FAULTS) addFault(lot, plan, life, companion)
  else if (drawn > 0.97) throwInHandler(plan)
  else if (drawn > 0.94 && !life.streamed) returnEarly(lot, plan)
  return plan
}

const planTasks = (lot: Lot, prefix: string): TaskPlan[] =>
  Array.from({ length: lot.pick([0, 1, 1, 2, 3, 5]) }, (_, index) => planTask(lot, `${prefix}.${index}`, 2))

const KINDS = ['quick', 'quick', 'quick', 'sleep', 'sleep', 'burn', 'throws', 'rejects', 'nested', 'promise', 'aborts']

const planTask = (lot: Lot, name: string, depth: number): TaskPlan => {
  const kind = lot.pick(KINDS)
  if (kind === 'nested') {
    const count = depth === 0 ? 0 : lot.below(3)
    return {
      name,
      kind,
      inner: Array.from({ length: count }, (_, index) => planTask(lot, `${name}.${index}`, depth - 1)),
    }
  }
  return {
    name,
    kind,
    ms: 1 + lot.below(4),
    ...(kind === 'aborts' && { timeout: 5 + lot.below(5) }),
    ...(kind !== 'promise' && lot.chance(0.15) && { on: lot.pick(['success', 'error'] as const) }),
    ...(lot.chance(0.2) && { imported: true }),
  }
}

const planBody = (lot: Lot, { event }: InvocationPlan, life: Life) => {
  event.chunks = lot.below(6)
  event.chunkLength = lot.pick([1, 100, 20_000])
  if (lot.chance(0.3)) event.chunkWait = 1 + lot.below(3)
  if (event.chunks > 0 && lot.chance(0.3)) event.bodyTasks = planTasks(lot, `${life.number}.${event.n}.body`)
}

const throwInHandler = (plan: InvocationPlan) => {
  plan.event.throws = true
  plan.answer = 'error'
  plan.outcome = 'error'
}

const returnEarly = (lot: Lot, plan: InvocationPlan) => {
  const { event } = plan
  event.early = lot.pick([
    'before-outer',
    'before-inner',
    'after-outer',
    'after-inner',
    'onError-outer',
    'onError-inner',
  ])
  if (event.early.startsWith('onError')) {
    event.throws = true
    plan.outcome = 'error'
  }
}

const DEADLY_TASKS = ['unhandled-rejection', 'unhandled-rejection-quick', 'async-throw', 'exit', 'kills-itself']

const addFault = (lot: Lot, plan: InvocationPlan, life: Life, companion: string) => {
  const { event } = plan
  const name = `${life.number}.${event.n}.fault`
  const addTask = (task: Omit<TaskPlan, 'name'>) => {
    event.tasks.splice(lot.below(event.tasks.length + 1), 0, { name, ...task })
  }
  const kill = (given: Kill) => {
    plan.kill = given
    plan.isFatal = true
  }
  const faults = [
    ...Array<() => void>(6).fill(() => {
      plan.isFatal = true
      addTask({ kind: lot.pick(DEADLY_TASKS), ms: 5 + lot.below(20) })
    }),
    ...Array<() => void>(2).fill(() => {
      addTask({ kind: 'sleep', ms: 200 })
      kill({ process: 'function', at: { step: 'start', name } })
    }),
    ...Array<() => void>(2).fill(() => {
      plan.answer = 'either'
      kill({ process: 'function', at: { milliseconds: lot.below(15) } })
    }),
    () => {
      event.wait = 200
      plan.answer = 'either'
      kill({ process: 'function', at: { step: 'handler', name: String(event.n) } })
    },
    () => kill({ process: 'function', at: 'idle' }),
    () => {
      event.exits = true
      plan.answer = 'error'
      plan.isFatal = true
    },
    () => {
      event.hangs = true
      plan.answer = 'error'
      plan.outcome = 'error'
      plan.isFatal = true
    },
    // RIC 3 takes no further invocation of a streaming handler before its event loop is empty: no timers left there.
    () => addTask({ kind: life.streamed ? 'never' : lot.pick(['never', 'never-timer', 'aborts']) }),
    ...(companion !== 'gate'
      ? [
          () => {
            addTask({ kind: 'sleep', ms: 200 })
            kill({ process: 'companion', at: { step: 'start', name } })
          },
        ]
      : []),
    ...(life.streamed
      ? [
          () => {
            event.bodyThrows = true
            plan.answer = 'error'
            plan.isFatal = true // AWS's clients leave the stream's error unhandled
          },
        ]
      : []),
  ]
  lot.pick(faults)()
}
