// Loaded into the function's process by `post-invoke doctor`, before the handler: sees where in the chain of middlewares
// postInvoke() stands, and defers a task of its own, by which it can be told whether the environment is held.
import { PROBE_CHANNEL, PROBE_TASK } from './probe-name.ts'

/** What it tells, once the handler has been loaded. */
export type ProbeFindings = {
  /** Whether the middleware was seen in a handler of Middy. A minified bundle has another name for it. */
  readonly isFound: boolean
  /** The names of the middlewares that were used before it, where they have any. */
  readonly earlier: readonly string[]
  readonly isStreamed: boolean
  /** Told again as the task of the probe begins: whether the handler has set `callbackWaitsForEmptyEventLoop` to false by then. */
  readonly doesNotWait: boolean
}

type Context = {
  callbackWaitsForEmptyEventLoop?: boolean
  defer?: ((task: () => unknown, options: { name: string }) => void) | undefined
}
type Hook = (request: { context: Context }) => unknown
type Handler = (...args: unknown[]) => unknown

const OURS = /^postInvokeMiddleware/
const TASK_MS = 100

let isFound = false
let isRun = false
let findings: ProbeFindings
const earlier = new Set<string>()
const probes = new WeakSet<Hook>()

// Middy keeps its middlewares in arrays: `before` at the end, the others at the beginning.
const { push, unshift } = Array.prototype
Array.prototype.push = function (...items) {
  return push.apply(
    this,
    items.map(item => (isOurs(item) ? seen(this, item) : item)),
  )
}
Array.prototype.unshift = function (...items) {
  for (const item of items) if (isOurs(item)) seen(this, item) // where it stands; what it does is not ours to change
  return unshift.apply(this, items)
}

const isOurs = (item: unknown): item is Hook => typeof item === 'function' && OURS.test(item.name)

const seen = (chain: readonly unknown[], hook: Hook): Hook => {
  for (const other of chain) {
    if (typeof other === 'function' && !isOurs(other)) earlier.add(other.name || 'a middleware without a name')
  }
  isFound = true
  // Middy collects the hooks of one use() in an array, then adds them to the chain: this comes here twice.
  if (probes.has(hook) || hook.name !== 'postInvokeMiddlewareBefore') return hook
  const probe = Object.defineProperty(probed(hook), 'name', { value: hook.name })
  probes.add(probe)
  return probe
}

const probed =
  (hook: Hook): Hook =>
  request => {
    const result = hook(request)
    deferTask(request.context)
    if (!isRun) throw new Error('post-invoke doctor goes no further: the handler itself is not run')
    return result
  }

const deferTask = (context: Context, defer = context.defer) =>
  defer?.(
    () => {
      tell({ ...findings, doesNotWait: context.callbackWaitsForEmptyEventLoop === false })
      return new Promise(resolve => setTimeout(resolve, TASK_MS))
    },
    { name: PROBE_TASK },
  )

const tell = (found: ProbeFindings) =>
  process.getBuiltinModule('node:diagnostics_channel').channel(PROBE_CHANNEL).publish(found)

const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming')

/** @param run - Whether the handler itself may be run; else the invocation ends before it. */
export const probe = (handler: Handler, run: boolean): Handler => {
  Object.assign(Array.prototype, { push, unshift })
  isRun = run
  findings = { isFound, earlier: [...earlier], isStreamed: STREAMING in handler, doesNotWait: false }
  tell(findings)
  return new Proxy(handler, {
    apply(target, self, args) {
      if (!isFound) {
        if (!isRun) throw new Error('post-invoke doctor goes no further: the handler is not run')
        return Reflect.apply(
          target,
          self,
          args.map(value => (isContext(value) ? watched(value) : value)),
        )
      }
      return Reflect.apply(target, self, args)
    },
  })
}

const isContext = (value: unknown): value is Context =>
  typeof value === 'object' && value !== null && 'getRemainingTimeInMillis' in value

/** Where the middleware cannot be seen, what it does can: it puts `defer` on the context. */
const watched = (context: Context): Context => {
  let isFirst = true
  return new Proxy(context, {
    defineProperty(target, name, descriptor) {
      if (name === 'defer' && isFirst) {
        isFirst = false
        queueMicrotask(() => deferTask(target, descriptor.value))
      }
      return Reflect.defineProperty(target, name, descriptor)
    },
  })
}
