// The package in a Lambda environment that is made up whole: the clock, the event loop, the runtime client, the companion's
// process, the handlers and the tasks. Whoever runs it says at each step which of the things that can happen now does, so
// every order of events can be had, again and again, and nothing takes time.
import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks'
import { EventEmitter } from 'node:events'
import { version } from '../../src/version.ts'
import type { Load } from './core-bundle.ts'

/** A function, its runtime and what holds its environment. */
export type Setting = {
  client: 'RIC 4' | 'RIC 3' | 'silent'
  /** `side by side`: Managed Instances, where nothing has to be held. */
  companion: 'layer' | 'internal' | 'gate' | 'off' | 'side by side'
  wrapper: 'Middy' | 'plain'
  /** What becomes of tasks that run when nothing new happens any more. */
  tasks: 'end' | 'hang'
  options: {
    order?: 'lifo' | 'fifo'
    concurrency?: number
    onDeadline?: 'carry' | 'drop'
    taskTimeout?: number
    withoutCompanion?: 'await' | 'detach'
    shutdown?: boolean
  }
  /** What `onTaskError` does, where there is one. */
  onTaskError?: 'ends' | 'throws' | 'takes time' | 'hangs'
  /** What a hook of `onShutdown()` does, where there is one. */
  hook?: 'ends' | 'throws' | 'takes time' | 'hangs'
  /** Whether the function hands work off. */
  handsOff?: boolean
}

/**
 * Says which of the things that can happen does, from 0 on: first come `common` ones, then `rare` ones. `undefined`: nothing
 * new any more, and all comes to its end.
 */
export type Choose = (common: number, rare: number) => number | undefined

/** What happened, in words, and how much of it. */
export type Story = { lines: string[]; steps: number; states: Set<string> }

const TIMEOUT_MS = 3_000
/** The companion lets go so long before the deadline. */
const RELEASE_MARGIN_MS = 100
/** How many turns of the event loop may pass between the last that has to be done and the release. */
const MOST_TURNS = 10

/** Where the package finds what runs handed-off work. */
const HANDED_OFF = Symbol.for(`middy-post-invoke/${version}/hand-off`)

const settle = () => new Promise<void>(resolve => setImmediate(resolve))

type Task = {
  readonly label: string
  readonly invocation: Invocation
  readonly on: 'always' | 'success' | 'error'
  runs: number
  /** How often onTaskError was told of it. */
  errorsTold: number
  /** Deferred after SIGTERM: it runs where there is time before the hooks. */
  readonly isAtEnd: boolean
  /** Deferred when time was up: who kills the process in that moment loses it. */
  readonly isTooLate: boolean
  state: 'waiting' | 'running' | 'done' | 'failed'
  isAborted: boolean
  end?: (failure?: Error) => void
  isPromise: boolean
}

/** What waits until somebody ends it: an `onTaskError`, a hook, a run of handed-off work. */
type Wait = {
  readonly what: string
  readonly hangs: boolean
  readonly during: Invocation | undefined
  end?: () => void
}

type Invocation = {
  readonly number: number
  readonly requestId: string
  readonly deadline: number
  readonly kind: 'buffered' | 'streamed' | 'early'
  handler: 'running' | 'returned' | 'thrown'
  readonly tasks: Task[]
  defer?: (task: unknown, options?: unknown) => void
  inContext?: (fn: () => void) => void
  finish?: (failure?: Error) => void
  expected?: { value?: unknown; error?: unknown }
  posted?: { value?: unknown; error?: unknown }
  stream: 'none' | 'under way' | 'over'
  streamAccepted?: () => void
  /** The runtime client has asked for the next invocation. */
  isRuntimeDone: boolean
  isReleased: boolean
  /** By the companion, because time was up. */
  isLetGo: boolean
  /** By SIGTERM. */
  isCutShort: boolean
  turnsIdle: number
  turnsToPost: number
  /** How many pieces it has handed off that nobody has begun. */
  piecesWaiting: number
}

export const tell = async (load: Load, setting: Setting, choose: Choose): Promise<Story> => {
  const lines: string[] = []
  const states = new Set<string>()
  let steps = 0
  const say = (what: string) => void lines.push(what)
  const wrong: string[] = []
  const fail = (what: string) => void wrong.push(what)

  // --- The clock and the event loop

  let now = 0
  const start = Date.UTC(2026, 0, 1)
  let count = 0
  const timers = new Map<number, { at: number; fn: () => void; isUnref?: true }>()
  let immediates: (() => void)[] = []
  const fakeTimers = {
    setTimeout(fn: (...args: any[]) => void, milliseconds = 0, ...args: any[]) {
      const id = ++count
      const entry = { at: now + Math.max(1, milliseconds), fn: AsyncResource.bind(() => fn(...args)) }
      timers.set(id, entry)
      const unref = () => {
        Object.assign(entry, { isUnref: true })
        return timeout
      }
      const timeout = { id, unref, ref: () => timeout, hasRef: () => true, refresh: () => timeout }
      return timeout
    },
    clearTimeout: (timeout?: { id: number }) => void (timeout && timers.delete(timeout.id)),
    setImmediate: (fn: () => void) => void immediates.push(AsyncResource.bind(fn)),
  }
  class FakeDate extends Date {
    constructor(...args: [] | [number]) {
      super(...((args.length ? args : [start + now]) as [number]))
    }
    static override now() {
      return start + now
    }
  }
  /** Every timer that is due, in order, and then what is due at the end of a turn. */
  const turn = async () => {
    const due = [...timers].filter(([, { at }]) => at <= now).sort(([, a], [, b]) => a.at - b.at)
    for (const [id, { fn }] of due) {
      if (!timers.delete(id)) continue
      fn()
      await settle()
    }
    const queue = immediates
    immediates = []
    for (const fn of queue) {
      if (isGone) return
      fn()
      await settle()
    }
    for (const invocation of invocations) {
      if (invocation.handler !== 'running' && !invocation.posted) invocation.turnsToPost++
      if (invocation.posted && !invocation.isReleased) invocation.turnsIdle++
    }
  }

  // --- The process

  let isGone = false
  /** It has named what is unfinished as its last act, and the companion's process names the same tasks again. */
  let isExiting = false
  const named = new Map<string, number>()
  const lateNamed = new Set<string>()
  const carriedOver = new Set<string>()
  /** As the environment ended. They may still come to their end while hooks run. */
  const namedAtEnd = new Set<string>()
  /** Of which the log says that they failed. */
  const failures = new Set<string>()
  const labelsIn = (text: string) => [...text.matchAll(/"(t\d+)"/g)].map(([, label]) => label as string)
  const log = (level: string) => (first: unknown) => {
    const text = typeof first === 'string' ? first : JSON.stringify(first)
    say(`   log: ${level}, ${text}`)
    if (/: the environment ends in the middle /.test(text)) {
      isExiting = true
      for (const label of labelsIn(text)) namedAtEnd.add(label)
    }
    if (/^middy-post-invoke: a fault of/.test(text)) fail('it reports a fault of its own')
    if (/; not run: "hook"/.test(text)) notRun = true
    if (/: onTaskError failed for task /.test(text)) return
    if (/(: task "t\d+" of request \S+ failed:|could not start before [a-z' ]+: )/.test(text))
      for (const label of labelsIn(text)) failures.add(label)
    for (const label of labelsIn(text)) {
      if (/ are carried over: /.test(text)) carriedOver.add(label)
      else if (/: the function is about to time out /.test(text)) lateNamed.add(label)
      else if (level === 'error') named.set(label, (named.get(label) ?? 0) + 1)
    }
  }
  const events = new EventEmitter()
  /** At the end of the environment. */
  let hasEndedItself = false
  /** The log says that there was no time for the hook. */
  let notRun = false
  /** Whether it was ended from outside, with nobody to see it. */
  let hasWitness = true
  const endProcess = (how: string) => {
    if (isGone) return
    isGone = true
    say(`   the process is gone: ${how}`)
    companion.onProcessGone()
  }
  const diagnostics = new Map<string, ((message: unknown) => void)[]>()
  const publish = (name: string, message: unknown) => {
    for (const fn of diagnostics.get(name) ?? []) fn(message)
  }
  const nobody = { hasSubscribers: false }

  // --- The companion's process, as far as a function sees it

  const FIFO = 7
  const FILE = 8
  let lastWords = ''
  const companion = {
    isThere: setting.companion === 'layer' || setting.companion === 'internal',
    isStuck: false,
    tellsEnds: true,
    last: 0,
    held: undefined as number | undefined,
    /** When it lets go by itself. */
    cap: Number.POSITIVE_INFINITY,
    text: '',
    receive(text: string) {
      companion.text += text
      const parts = companion.text.split('\n')
      companion.text = parts.pop() as string
      for (const line of parts) if (line !== '') companion.line(line)
    },
    line(line: string) {
      say(`   to the companion: ${line}`)
      const [kind, number, rest] = line.split(' ')
      if (kind === 'open' || kind === 'watch') {
        companion.tellsEnds = kind === 'open'
        return
      }
      if (!/^(hold \d+ \d+|settled \d+ [\w-]{0,8}|work)$/.test(line)) fail(`a line that is none: ${line}`)
      if (kind === 'work' || Number(number) <= companion.last) return
      const invocation = current()
      if (!invocation) return fail(`${line}: there is no invocation`)
      if (isBrokenOff(invocation) || isEnding) {
        // Nobody waits for that answer.
      } else if (!invocation.posted && invocation.handler !== 'running') {
        // The response may leave in this same turn.
        whenTurned.push(() => invocation.posted || fail(`${line}: before the answer`))
      } else if (!invocation.posted) fail(`${line}: before the answer`)
      if (kind === 'hold') {
        companion.held = Number(number)
        companion.cap = Number(rest) - start - RELEASE_MARGIN_MS
        if (Math.abs(companion.cap + RELEASE_MARGIN_MS - invocation.deadline) > 1) fail('held until another deadline')
      } else {
        companion.last = Number(number)
        if (!invocation.requestId.startsWith(rest as string)) fail(`${line}: that is another invocation`)
        companion.release()
      }
    },
    isHolding: false,
    release() {
      companion.held = undefined
      companion.cap = Number.POSITIVE_INFINITY
      companion.isHolding = false
    },
    /** Time has passed. */
    look() {
      if (!companion.isHolding || now < companion.cap) return
      say('   the companion lets go: time is up')
      for (const label of labelsIn(lastWords.split('\n')[1] ?? '')) lateNamed.add(label)
      companion.last = companion.held ?? companion.last + 1
      const invocation = current()
      if (invocation) invocation.isLetGo = true
      companion.release()
    },
    onProcessGone() {
      if (!companion.isThere || isExiting) return
      const text = lastWords.split('\n')[0] ?? ''
      if (text !== '') say(`   the companion logs: ${text}`)
      for (const label of labelsIn(text)) named.set(label, (named.get(label) ?? 0) + 1)
    },
  }
  const whenTurned: (() => void)[] = []

  // --- What waits, and who waits for it

  const waits: Wait[] = []
  const untilEnded = (what: string, hangs: boolean, during?: Invocation): Promise<void> => {
    say(`   ${what} begins`)
    const wait: Wait = { what, hangs, during: during?.isReleased === false ? during : undefined }
    waits.push(wait)
    return new Promise(resolve => {
      wait.end = () => {
        waits.splice(waits.indexOf(wait), 1)
        say(`   ${what} ends`)
        resolve()
      }
    })
  }
  const act = (
    kind: 'ends' | 'throws' | 'takes time' | 'hangs',
    what: string,
    during?: Invocation,
  ): Promise<void> | undefined => {
    if (kind === 'throws') throw new Error('thrown by the test')
    return kind === 'ends' ? undefined : untilEnded(what, kind === 'hangs', during)
  }
  /** No longer than until the environment has to be let go. */
  const isWaitedForIn = (invocation: Invocation) =>
    waits.some(({ during }) => during === invocation) && now < invocation.deadline - RELEASE_MARGIN_MS

  const broken = (code: string) => Object.assign(new Error(code), { code })
  const fs = {
    constants: { O_WRONLY: 1, O_RDWR: 2, O_CREAT: 64, O_NONBLOCK: 2048, O_NOFOLLOW: 131072 },
    existsSync: (path: string) => path === '/opt/extensions/post-invoke' && setting.companion === 'layer',
    readdirSync(path: string) {
      if (path === '/opt/extensions' && setting.companion === 'layer') return ['post-invoke']
      throw broken('ENOENT')
    },
    openSync(path: string) {
      if (path.endsWith('.tasks')) return FILE
      if (setting.companion === 'layer' && companion.isThere) return FIFO
      throw broken('ENXIO')
    },
    fstatSync: (fd: number) => ({ isFIFO: () => fd === FIFO, isFile: () => fd === FILE, uid: 0 }),
    closeSync() {},
    readSync(_fd: number, buffer: Buffer) {
      return buffer.write('ready\n')
    },
    writeSync(fd: number, text: string | Buffer) {
      if (fd === 2) {
        log('error')(String(text).trim())
        return text.length
      }
      if (fd === FILE) {
        lastWords = String(text)
        return text.length
      }
      if (!companion.isThere) throw broken('EPIPE')
      if (companion.isStuck) throw broken('EAGAIN')
      companion.receive(String(text))
      return text.length
    },
  }
  const socket = Object.assign(new EventEmitter(), {
    _handle: { fd: FIFO },
    unref() {},
    destroyed: false,
    destroy() {},
  })
  const fakeProcess = {
    env: {
      ...(setting.companion !== 'side by side' && { PATH: '' }),
      AWS_LAMBDA_RUNTIME_API: '127.0.0.1:9001',
      AWS_EXECUTION_ENV: 'AWS_Lambda_nodejs24.x',
      AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA: '1',
      ...(setting.companion === 'side by side' && { AWS_LAMBDA_MAX_CONCURRENCY: '2' }),
      ...(setting.companion !== 'side by side' && {
        POST_INVOKE_COMPANION: setting.companion === 'gate' ? 'embedded' : setting.companion,
      }),
    } as Record<string, string | undefined>,
    pid: 4242,
    on: (name: string, fn: () => void) => events.on(name, fn),
    once: (name: string, fn: () => void) => events.once(name, fn),
    off: (name: string, fn: () => void) => events.off(name, fn),
    prependListener: (name: string, fn: () => void) => events.prependListener(name, fn),
    prependOnceListener: (name: string, fn: () => void) => events.prependOnceListener(name, fn),
    listenerCount: (name: string) => events.listenerCount(name),
    getuid: () => 0,
    cwd: () => '/var/task',
    chdir() {},
    emitWarning() {},
    kill(_pid: number, signal: string) {
      hasEndedItself = isEnding
      endProcess(`it has sent itself ${signal}`)
    },
    getBuiltinModule(id: string) {
      switch (id) {
        case 'node:timers':
          return fakeTimers
        case 'node:async_hooks':
          return { AsyncLocalStorage, AsyncResource }
        case 'node:diagnostics_channel':
          return {
            subscribe: (name: string, fn: () => void) => diagnostics.set(name, [...(diagnostics.get(name) ?? []), fn]),
            tracingChannel: () => nobody,
            channel: () => nobody,
          }
        case 'node:fs':
          return fs
        case 'node:child_process':
          return {
            spawn: () =>
              Object.assign(new EventEmitter(), {
                pid: 4243,
                stdio: [null, null, null, socket],
                unref() {},
                kill() {},
              }),
          }
      }
      throw new Error(`${id} is not there`)
    },
  }

  // --- The runtime client

  const global: Record<string | symbol, any> = {}
  const BEFORE_EXIT = Symbol.for('aws.lambda.beforeExit')
  const REQUEST_ID = Symbol.for('aws.lambda.runtime.requestId')
  const idle = () => {}
  const isSideBySide = setting.companion === 'side by side'
  const stores = new AsyncLocalStorage<{ requestId: string }>()
  let store: { requestId: string } | undefined
  if (setting.client === 'RIC 3') global[BEFORE_EXIT] = idle
  if (setting.client === 'RIC 4') {
    global.awslambda = {
      streamifyResponse() {},
      InvokeStore: {
        run(context: { requestId: string }, fn: () => unknown) {
          if (isSideBySide) return stores.run(context, fn)
          store = context
          return fn()
        },
        hasContext: () => (isSideBySide ? stores.getStore() : store) !== undefined,
        getRequestId: () => (isSideBySide ? stores.getStore() : store)?.requestId,
      },
    }
  }

  const post = (invocation: Invocation, answer: { value?: unknown; error?: unknown }) => {
    if (isGone) return
    say(`   invocation ${invocation.number} is answered`)
    if (invocation.posted) fail('answered twice')
    invocation.posted = answer
    // Middy answers by itself 5 ms before the deadline.
    if (setting.wrapper === 'Middy' && answer.error !== undefined && now >= invocation.deadline - 5) {
      invocation.handler = 'thrown'
      invocation.expected = answer
    }
    const { expected } = invocation
    if (!expected || expected.value !== answer.value || expected.error !== answer.error) fail('the answer has changed')
    const tooLate = invocation.tasks.filter(({ runs, isPromise }) => runs > 0 && !isPromise)
    if (isHeldAfter() && !isEnding && !companionDied && tooLate.length > 0)
      fail(`${tooLate[0]?.label} has run before its answer`)
    const unfinished = invocation.tasks.filter(({ state }) => state === 'waiting' || state === 'running')
    const isInTime = now < invocation.deadline - 250
    if (isAwaited() && isInTime && !isEnding && unfinished.some(task => isOwed(task) && !named.has(task.label))) {
      fail(`${unfinished[0]?.label} was to be waited for before the answer`)
    }
  }
  /** A stream that its handler broke off is not waited for for long. */
  const isBrokenOff = ({ stream, handler }: Invocation) => stream === 'under way' && handler === 'thrown'
  const isHeldAfter = () => setting.companion !== 'off'
  const isAwaited = () => setting.companion === 'off' && setting.options.withoutCompanion !== 'detach'

  const outcomeOf = ({ handler }: Invocation) => (handler === 'thrown' ? 'error' : 'success')
  const isOwed = ({ on, invocation }: Task) =>
    on === 'always' || (!invocation.isCutShort && on === outcomeOf(invocation))

  const request = ({ requestId }: Invocation) => ({
    request: {
      method: 'POST',
      path: `/2018-06-01/runtime/invocation/${requestId}/response`,
      getHeader: () => 'streaming',
    },
  })

  const runInvocation = async (invocation: Invocation) => {
    const context = {
      awsRequestId: invocation.requestId,
      getRemainingTimeInMillis: () => invocation.deadline - now,
    }
    const event = { number: invocation.number }
    const writer = { write() {} }
    const call = async (): Promise<{ value?: unknown; error?: unknown }> => {
      try {
        const value =
          invocation.kind === 'streamed'
            ? await plain(event, writer, context)
            : await handlerOf(invocation)(event, context)
        return { value }
      } catch (error) {
        return { error }
      }
    }
    const streamEnds = async () => {
      if (invocation.stream !== 'under way') return
      await new Promise<void>(resolve => {
        invocation.streamAccepted = resolve
      })
    }
    const done = () => {
      if (isGone) return
      say(`   the runtime asks for the invocation after ${invocation.number}`)
      invocation.isRuntimeDone = true
      // What comes of that is seen when the event loop polls again, after what waits for the end of this turn.
      isAsking++
      fakeTimers.setImmediate(() => isAsking--)
    }
    if (setting.client === 'RIC 4') {
      await global.awslambda.InvokeStore.run({ requestId: invocation.requestId }, async () => {
        const answer = await call()
        if (invocation.stream === 'none') {
          await new Promise<void>(resolve => fakeTimers.setImmediate(resolve))
          post(invocation, answer)
        } else if (invocation.handler !== 'thrown') await streamEnds() // what a handler broke off is not waited for
      })
      return done()
    }
    if (setting.client === 'RIC 3') {
      global[REQUEST_ID] = invocation.requestId
      global[BEFORE_EXIT] = () => {}
    }
    const answer = await call()
    await streamEnds()
    if (setting.client === 'RIC 3') global[BEFORE_EXIT] = idle
    else await new Promise<void>(resolve => fakeTimers.setImmediate(resolve))
    if (invocation.stream === 'none') post(invocation, answer)
    done()
  }

  // --- The function

  const onTaskError = (_error: unknown, { name, awsRequestId }: { name: string; awsRequestId: string }) => {
    const task = tasks.find(({ label }) => label === name) as Task
    if (awsRequestId !== task.invocation.requestId) fail(`onTaskError is told of ${name} in another invocation`)
    if (++task.errorsTold > 1) fail(`onTaskError is told of ${name} twice`)
    if (task.state === 'done' && !task.isAborted) fail(`onTaskError is told of ${name}, which has ended well`)
    return act(setting.onTaskError as 'ends', `onTaskError for ${name}`, task.invocation)
  }
  const options = { ...setting.options, ...(setting.onTaskError && { onTaskError }) }

  let hookRuns = 0
  const hook = () => {
    hookRuns++
    say('   the shutdown hook runs')
    if (!isEnding) fail('the shutdown hook runs before the end')
    if (hookRuns > 1) fail('the shutdown hook runs twice')
    const early = tasks.find(
      task => (task.state === 'waiting' || task.state === 'running') && !task.isAtEnd && isOwed(task) && !isTold(task),
    )
    if (early) fail(`the shutdown hook runs before ${early.label}`)
    return act(setting.hook as 'ends', 'the shutdown hook')
  }

  const handedOff = {
    run(_log: unknown, deadline: number, { requestId }: { requestId?: string } = {}) {
      const owners = invocations.filter(({ piecesWaiting }) => piecesWaiting > 0)
      if (owners.length === 0) return undefined
      for (const owner of owners) owner.piecesWaiting = 0
      if (isAsleep()) fail('handed-off work runs in frozen time')
      if (setting.companion === 'layer' && !companionDied) fail('handed-off work runs here and not in the layer')
      const of = invocations.filter(invocation => invocation.requestId === requestId)
      if (of.length > 0 && !isEnding && !companionDied) {
        const isAnswered = of.some(invocation => invocation.posted || isBrokenOff(invocation))
        if (isHeldAfter() && !isAnswered) fail('handed-off work runs before its answer')
        const last = Math.max(...of.map(invocation => start + invocation.deadline - 250))
        if (deadline > last + 1) fail('handed-off work is given too much time')
      }
      return untilEnded('handed-off work', setting.tasks === 'hang', of.at(-1))
    },
  }
  if (setting.handsOff) global[HANDED_OFF] = handedOff

  const core = load({
    process: fakeProcess,
    globalThis: global,
    performance: { now: () => now },
    Date: FakeDate,
    console: { debug: () => {}, info: () => {}, log: () => {}, warn: log('warn'), error: log('error') },
    ...fakeTimers,
    require: id => fakeProcess.getBuiltinModule(id.startsWith('node:') ? id : `node:${id}`),
  })
  if (setting.hook) core.onShutdown(hook, { name: 'hook' })
  let beginning: Invocation | undefined
  const untilFinished = (invocation: Invocation): Promise<unknown> =>
    new Promise((resolve, reject) => {
      invocation.finish = failure => {
        invocation.finish = () => {}
        if (failure) reject(failure)
        else resolve((invocation.expected as { value: unknown }).value)
      }
    })
  const handle = (context: { defer: Invocation['defer'] }): Promise<unknown> => {
    const invocation = beginning as Invocation
    if (context.defer) invocation.defer = context.defer
    invocation.inContext = AsyncLocalStorage.snapshot()
    return untilFinished(invocation)
  }
  const plain = core.withPostInvoke(
    (_event: unknown, second: any, third: any) => handle(typeof second.write === 'function' ? third : second),
    options,
  )
  const withMiddy = core
    .middy()
    .use(core.postInvoke(options))
    .handler((_event: unknown, context: any) => handle(context))
  const early = core
    .middy()
    .use(core.postInvoke(options))
    .before((request: any) => {
      const invocation = beginning as Invocation
      invocation.defer = request.context.defer
      invocation.inContext = AsyncLocalStorage.snapshot()
      // A Middy before hook that answers by itself, when it is told to.
      return untilFinished(invocation)
    })
    .handler(() => fail('the handler was called after an early return'))
  const handlerOf = ({ kind }: Invocation) =>
    kind === 'early' ? early : setting.wrapper === 'Middy' ? withMiddy : plain

  let isAsking = 0
  const invocations: Invocation[] = []
  const open = () => invocations.filter(({ isReleased }) => !isReleased)
  const current = () => open()[0]
  const tasks: Task[] = []
  const running = () => tasks.filter(({ state }) => state === 'running')

  const begin = (kind: Invocation['kind'], isSame: boolean) => {
    const number = invocations.length + 1
    const previous = invocations.at(-1)
    const requestId =
      isSame && previous ? previous.requestId : `${'abcdefgh'[number % 8]}${number}000000-0000-4000-8000-0000`
    const invocation: Invocation = {
      number,
      requestId,
      deadline: now + TIMEOUT_MS,
      kind,
      handler: 'running',
      tasks: [],
      stream: 'none',
      isRuntimeDone: false,
      isReleased: false,
      isLetGo: false,
      isCutShort: false,
      turnsIdle: 0,
      turnsToPost: 0,
      piecesWaiting: 0,
    }
    invocations.push(invocation)
    beginning = invocation
    companion.isHolding = companion.isThere
    if (companion.isThere && !companion.tellsEnds) companion.cap = invocation.deadline - RELEASE_MARGIN_MS
    say(`== invocation ${number} begins, ${kind}${isSame ? ', with the same request id' : ''}`)
    void runInvocation(invocation)
  }

  const deferTask = (invocation: Invocation, kind: string, on: Task['on'] = 'always') => {
    const task: Task = {
      label: `t${tasks.length + 1}`,
      invocation,
      on,
      runs: 0,
      errorsTold: 0,
      isAtEnd: isEnding,
      isTooLate: invocation.isLetGo,
      state: 'waiting',
      isAborted: false,
      isPromise: kind === 'a promise',
    }
    say(
      `   ${task.label} is deferred in invocation ${invocation.number}: ${kind}${on === 'always' ? '' : `, on ${on}`}`,
    )
    const body = () =>
      new Promise<void>((resolve, reject) => {
        task.state = 'running'
        task.end = failure => {
          if (task.state !== 'running') return
          task.state = failure ? 'failed' : 'done'
          say(`   ${task.label} ${failure ? 'fails' : 'ends'}`)
          if (failure) reject(failure)
          else resolve()
        }
      })
    const run = (given: { signal: AbortSignal }): unknown => {
      task.runs++
      say(`   ${task.label} runs`)
      if (isAsleep()) fail(`${task.label} runs in frozen time`)
      // With SIGTERM no answer is to be had any more.
      if (isHeldAfter() && !invocation.posted && !isEnding && !isBrokenOff(invocation) && !companionDied)
        fail(`${task.label} runs before its answer`)
      given.signal.addEventListener('abort', () => {
        task.isAborted = true
      })
      if (kind === 'one that ends at once') {
        task.state = 'done'
        return undefined
      }
      if (kind === 'one that throws') {
        task.state = 'failed'
        throw new Error('thrown by the test')
      }
      if (kind === 'one that defers another') {
        task.state = 'done'
        deferTask(invocation, 'one that takes time')
        return undefined
      }
      if (kind === 'one that burns') {
        task.state = 'done'
        burn()
        return undefined
      }
      return body()
    }
    tasks.push(task)
    invocation.tasks.push(task)
    try {
      invocation.defer?.(task.isPromise ? body() : run, { name: task.label, ...(on !== 'always' && { on }) })
      if (task.isPromise) task.runs = 1
    } catch (error) {
      fail(`defer() threw: ${error}`)
    }
  }

  /** No timer and nothing else of this process comes to its turn meanwhile, only the companion's does. */
  const burn = () => {
    now += TIMEOUT_MS * 0.98
    say(`   … until ${now}`)
    companion.look()
  }

  // --- Time that stands still

  const mayFreeze = () => open().length === 0 && invocations.length > 0 && !isSideBySide
  /**
   * The runtime and the companion have asked for what comes next: Lambda may freeze the environment at any moment, and whatever
   * the process still does may be seen an hour later. Time that was up for is none of ours.
   */
  const isAsleep = () =>
    !isSideBySide &&
    isHeldAfter() &&
    !companionDied &&
    !isEnding &&
    invocations.length > 0 &&
    !companion.isHolding &&
    invocations.every(({ isRuntimeDone, isLetGo }) => isRuntimeDone && !isLetGo)

  /** The environment is let go when the runtime and the companion have asked for what comes next. */
  const lookForRelease = () => {
    for (const invocation of open()) {
      if (!invocation.isRuntimeDone || companion.isHolding) continue
      invocation.isReleased = true
      if (isSideBySide || !isHeldAfter() || companionDied || invocation.isLetGo || isEnding) continue
      say(`   invocation ${invocation.number} is over`)
      const unfinished = invocation.tasks.filter(
        task => (task.state === 'waiting' || task.state === 'running') && isOwed(task) && !isTold(task),
      )
      if (unfinished.length > 0) fail(`let go with ${unfinished[0]?.label} unfinished, of which nobody has told`)
      if (isWaitedForIn(invocation)) fail(`let go while ${waits[0]?.what} is not over`)
      const isInTime = now < invocation.deadline - 250
      if (setting.companion !== 'layer' && setting.client !== 'silent' && isInTime && invocation.piecesWaiting > 0) {
        fail('let go with handed-off work that waits')
      }
    }
  }
  let companionDied = false
  const isTold = ({ label }: Task) => named.has(label) || carriedOver.has(label) || lateNamed.has(label)

  // --- What has to hold at each step

  const check = () => {
    for (const done of whenTurned.splice(0)) done()
    for (const task of tasks) {
      if (task.runs > 1) fail(`${task.label} has run twice`)
      if (setting.onTaskError && failures.has(task.label) && task.errorsTold !== 1) {
        fail(`onTaskError is told of ${task.label} ${task.errorsTold} times`)
      }
    }
    if (isGone) return
    for (const invocation of open()) {
      if (invocation.handler !== 'running' && !invocation.posted && isHeldAfter() && invocation.stream === 'none') {
        if (invocation.turnsToPost > MOST_TURNS) fail(`the answer of invocation ${invocation.number} waits`)
      }
      const owes = tasks.some(({ state }) => state === 'waiting' || state === 'running')
      const mayWait = waits.length > 0 && now < invocation.deadline - RELEASE_MARGIN_MS
      if (owes || mayWait || !invocation.posted) invocation.turnsIdle = 0
      if (invocation.turnsIdle > MOST_TURNS && !companion.isStuck && !companionDied) {
        fail(`invocation ${invocation.number} is held with nothing left to do`)
      }
    }
  }

  /** With nothing open and nothing carried over, nothing may be left in the process. */
  const checkNothingKept = () => {
    if (invocations.some(({ stream }) => stream === 'under way')) return
    // Of what hangs the time limit may be left.
    const isLimited =
      invocations.some(({ deadline }) => now < deadline) || [...timers.values()].some(({ at }) => at <= now + 1)
    if (waits.some(({ hangs }) => !hangs || isLimited)) return
    if (isGone || isEnding || open().length > 0 || immediates.length > 0 || companion.isStuck) return
    if (tasks.some(({ state, label }) => (state === 'waiting' || state === 'running') && !named.has(label))) return
    // Where no other process names the tasks of a function that times out, one timer for all does, and holds nothing.
    const naming = !companion.isThere && [...timers.values()].some(({ isUnref }) => isUnref) ? 1 : 0
    if (timers.size > naming) fail(`${timers.size - naming} timers are left with nothing to do`)
  }

  // --- What can happen next

  const deferKinds = [
    'one that takes time',
    'one that ends at once',
    'one that throws',
    'one that defers another',
    'one that burns',
    'a promise',
  ]
  type Act = [what: string, act: () => unknown]

  const possible = (isNew: boolean): { common: Act[]; rare: Act[] } => {
    const acts: Act[] = []
    const rare: Act[] = []
    if (isGone) return { common: acts, rare }
    const isFree = isSideBySide ? open().filter(({ isRuntimeDone }) => !isRuntimeDone).length < 2 : open().length === 0
    if (isNew && isFree && isAsking === 0 && invocations.length < 3 && !isEnding) {
      const kinds: Invocation['kind'][] = setting.wrapper === 'Middy' ? ['buffered', 'early'] : ['buffered', 'streamed']
      for (const kind of kinds) acts.push([`begin ${kind}`, () => begin(kind, false)])
      if (invocations.length > 0 && !isSideBySide) acts.push(['begin the same again', () => begin('buffered', true)])
    }
    for (const invocation of open()) {
      const { number } = invocation
      if (invocation.handler === 'running' && invocation.defer) {
        const end = (failure?: Error) => {
          if (invocation.handler !== 'running') return
          invocation.handler = failure ? 'thrown' : 'returned'
          invocation.expected = failure
            ? { error: failure }
            : { value: invocation.kind === 'streamed' ? undefined : { answer: number } }
          say(`-- the handler of invocation ${number} ${failure ? 'throws' : 'returns'}`)
          invocation.finish?.(failure)
        }
        acts.push([`return ${number}`, () => end()])
        if (isNew) {
          acts.push([`throw ${number}`, () => end(new Error(`of invocation ${number}`))])
          if (invocation.tasks.length < 3) {
            if (setting.handsOff && invocation.piecesWaiting === 0) {
              acts.push([
                `hand off ${number}`,
                () => {
                  say(`   work is handed off in invocation ${number}`)
                  invocation.piecesWaiting++
                },
              ])
            }
            for (const kind of deferKinds) {
              acts.push([`defer ${number} ${kind}`, () => invocation.inContext?.(() => deferTask(invocation, kind))])
            }
            for (const on of ['success', 'error'] as const) {
              acts.push([
                `defer ${number} on ${on}`,
                () => invocation.inContext?.(() => deferTask(invocation, 'one that takes time', on)),
              ])
            }
          }
          if (invocation.kind === 'streamed' && invocation.stream === 'none') {
            acts.push([
              `stream ${number}`,
              () => {
                say(`-- the stream of invocation ${number} begins`)
                invocation.stream = 'under way'
                publish('http.client.request.created', request(invocation))
              },
            ])
          }
        }
      }
      if (invocation.handler !== 'running' && invocation.stream === 'under way') {
        const accept = (name: string) => () => {
          say(`-- the stream of invocation ${number}: ${name}`)
          invocation.stream = 'over'
          invocation.posted = invocation.expected as { value: unknown }
          publish(name, request(invocation))
          invocation.streamAccepted?.()
        }
        acts.push([`accept ${number}`, accept('http.client.response.finish')])
        if (isNew) acts.push([`break ${number}`, accept('http.client.request.error')])
      }
    }
    for (const task of running()) {
      acts.push([`end ${task.label}`, () => task.end?.()])
      if (isNew) acts.push([`fail ${task.label}`, () => task.end?.(new Error('failed by the test'))])
    }
    for (const wait of waits) if (!wait.hangs) acts.push([`finish ${wait.what}`, () => wait.end?.()])
    if (immediates.length > 0) acts.push(['turn', turn])
    if (isNew) {
      const next = Math.min(...[...timers.values()].map(({ at }) => at), companion.isHolding ? companion.cap : Infinity)
      if (Number.isFinite(next)) {
        acts.push([
          'time',
          async () => {
            now = Math.max(now, next)
            say(`-- it is ${now}`)
            companion.look()
            await turn()
          },
        ])
      }
      if (mayFreeze()) acts.push(['freeze', freeze])
      if (companion.isThere && open().length > 0) {
        rare.push([
          'companion dies',
          () => {
            say('-- the companion dies')
            companion.isThere = false
            companionDied = true
            companion.release()
            socket.destroyed = true
            socket.emit('close')
          },
        ])
        if (!companion.isStuck) {
          rare.push([
            'companion late',
            () => {
              say('-- the companion does not read')
              companion.isStuck = true
            },
          ])
        }
      }
      if (!isEnding && invocations.length > 0) {
        rare.push(['kill', () => killProcess()])
        if (isAsking === 0) rare.push(['shutdown', shutdown])
        rare.push(['exit', () => exitProcess()])
      }
    }
    if (companion.isStuck) {
      acts.push([
        'companion reads',
        async () => {
          say('-- the companion reads again')
          companion.isStuck = false
          now += 10
          await turn()
        },
      ])
    }
    return { common: acts, rare }
  }

  /** Lambda freezes some time after it may: what the process would do until then is done. */
  const freeze = async () => {
    for (let turns = 0; turns < 3; turns++) await turn()
    say('-- frozen, for an hour')
    now += 3_600_000
    say('-- thawed')
  }
  const killProcess = () => {
    say('-- SIGKILL')
    if (!companion.isThere || companion.isStuck) hasWitness = false
    endProcess('killed')
  }
  const exitProcess = () => {
    say('-- it exits')
    isExiting = true
    events.emit('exit')
    endProcess('it has exited')
  }
  let isEnding = false
  const shutdown = async () => {
    isEnding = true
    for (const invocation of open()) {
      // Where the client tells nothing, an answer may be taken for one that has not left.
      invocation.isCutShort = !invocation.posted || setting.client === 'silent'
    }
    if (events.listenerCount('SIGTERM') === 0) return killProcess()
    say('-- SIGTERM')
    events.emit('SIGTERM')
    await settle()
  }

  /** Nobody does anything new: handlers return, tasks end or hang, time passes until everything is over. */
  const finish = async () => {
    for (let rounds = 0; rounds < 200 && !isGone; rounds++) {
      const act = possible(false).common.find(([what]) => setting.tasks === 'end' || !what.startsWith('end '))
      if (act) await act[1]()
      else if (timers.size > 0 || companion.isHolding) {
        const next = Math.min(
          ...[...timers.values()].map(({ at }) => at),
          companion.isHolding ? companion.cap : Infinity,
        )
        if (!Number.isFinite(next)) break
        now = Math.max(now, next)
        companion.look()
        await turn()
      } else break
      await settle()
      lookForRelease()
      check()
      checkNothingKept()
      if (wrong.length > 0) return
    }
    if (open().length > 0 && !isGone) fail(`invocation ${open()[0]?.number} is never over`)
  }
  const atTheEnd = async () => {
    await finish()
    if (wrong.length > 0) return
    if (!isGone) {
      await shutdown()
      await finish()
      if (!isGone) {
        lastWords = lastWords.trim() === '' ? '' : lastWords
        endProcess('the environment is over')
      }
    }
    if (
      setting.hook &&
      setting.options.shutdown !== false &&
      hasEndedItself &&
      !companionDied &&
      hookRuns === 0 &&
      !notRun
    ) {
      fail('the shutdown hook has not run')
    }
    // Carried over is named, in case the environment never runs again.
    const excused = (task: Task) =>
      carriedOver.has(task.label) ||
      (lateNamed.has(task.label) && !named.has(task.label)) || // by the companion, as time was up
      !hasWitness ||
      task.isTooLate ||
      companionDied ||
      isSideBySide ||
      setting.companion === 'off' ||
      !isOwed(task)
    for (const task of tasks) {
      const times = named.get(task.label) ?? 0
      const isLateSigterm = isSideBySide && isEnding // the main thread ends it
      const mayEndLate = isLateSigterm || namedAtEnd.has(task.label)
      if (task.state === 'done' && times > 0 && !task.isAborted && !task.isPromise && !mayEndLate)
        fail(`${task.label} has ended well and is named`)
      if (task.state === 'failed' && times !== 1 && !excused(task))
        fail(`${task.label} has failed and is named ${times} times`)
      if ((task.state === 'waiting' || task.state === 'running') && times !== 1 && !excused(task)) {
        fail(`${task.label} was ${task.state === 'waiting' ? 'never run' : 'lost'} and is named ${times} times`)
      }
    }
  }

  // --- One step after the other

  const stateOf = () =>
    [
      ...invocations.map(({ kind, handler, stream, isRuntimeDone, isReleased, posted }) =>
        [kind[0], handler[0], stream[0], +isRuntimeDone, +isReleased, +!!posted].join(''),
      ),
      ...tasks.map(({ state, isPromise, on }) => `${state[0]}${+isPromise}${on[0]}`),
      timers.size,
      immediates.length,
      +companion.isThere,
      +companion.isHolding,
      +companion.isStuck,
      +isGone,
      +isEnding,
      waits.length,
      hookRuns,
      ...invocations.map(({ piecesWaiting }) => piecesWaiting),
    ].join(' ')

  await settle()
  while (!isGone && wrong.length === 0) {
    const { common, rare } = possible(true)
    const index = common.length + rare.length > 0 ? choose(common.length, rare.length) : undefined
    if (index === undefined) break
    await ([...common, ...rare][index] as Act)[1]()
    await settle()
    steps++
    lookForRelease()
    check()
    checkNothingKept()
    states.add(stateOf())
  }
  if (wrong.length === 0) await atTheEnd()
  if (wrong.length > 0) {
    throw new Error(`${wrong[0]}\n${JSON.stringify(setting)}\n${lines.map(line => `  ${line}`).join('\n')}`)
  }
  return { lines, steps, states }
}
