// What becomes of tasks, holds and shutdown hooks, for tools that watch: the tracing channels of node:diagnostics_channel.
// Where nobody subscribes, nothing is built and nothing is published.
// https://nodejs.org/api/diagnostics_channel.html#tracingchannel-channels

import type { Channel, TracingChannel } from 'node:diagnostics_channel'
import { builtIn } from '../built-in.ts'
import { type AsyncContext, asyncContext } from './async-context.ts'

/**
 * A task, from its start until it is no longer waited for: channel `middy-post-invoke:task`. What is bound to its `start`
 * (`bindStore`) is there in all of the task, on top of the async context in which it was deferred.
 */
export type TaskMessage = {
  /** The `name` given to `defer()`, else the function's own, else `task 1` by its place. */
  readonly name: string
  /** The request that deferred it. */
  readonly awsRequestId: string
  /** The tenant of the request, where the function isolates tenants. */
  readonly tenantId?: string | undefined
  /** Its place among the tasks of its request, from 1. */
  readonly index: number
  /** How its request ended. */
  readonly outcome: 'success' | 'error'
  /** Whether an earlier deadline has kept it from starting, so that it runs in the time of a later request or at shutdown. */
  readonly carried: boolean
  /** How it ended, from `asyncStart` on. `abandoned`: it went on for more than 100 ms after its abort. */
  status?: 'completed' | 'failed' | 'abandoned'
  /** What it threw, or why it was abandoned. */
  error?: unknown
}

/** A task that is not started when it is its turn: channel `middy-post-invoke:task:unstarted`, a plain one. */
export type UnstartedTaskMessage = Omit<TaskMessage, 'status' | 'error'> & {
  /** `carried`: over to what runs next. `dropped`: time was up, it is gone. `skipped`: its `on` asks for the other outcome. */
  readonly status: 'carried' | 'dropped' | 'skipped'
}

/**
 * The environment held for the tasks of a request, and for what it has handed off where this process runs that, from the
 * response until all are settled: channel `middy-post-invoke:hold`. A request without either has none.
 */
export type HoldMessage = {
  /** The request for whose tasks it is held. */
  readonly awsRequestId: string
  /** Its tenant, where the function isolates tenants. */
  readonly tenantId?: string | undefined
  /** How the request ended. */
  readonly outcome: 'success' | 'error'
  /** How many tasks have been started, also carried ones of other requests. From `asyncStart` on. */
  tasks?: number
  /** How many have failed, among them those that were dropped before they had started. From `asyncStart` on. */
  failed?: number
  /** How many have been carried over. From `asyncStart` on. */
  carried?: number
  /** How long it took. From `asyncStart` on. */
  milliseconds?: number
}

/** All that happens between SIGTERM and the end of the process: channel `middy-post-invoke:shutdown`. */
export type ShutdownMessage = {
  /** How long it may take, in milliseconds. */
  readonly budget: number
  /** How many hooks wait. */
  readonly hooks: number
  /** The names of those that there was no time for, from `asyncStart` on. */
  notRun?: readonly string[]
}

/** One shutdown hook: channel `middy-post-invoke:hook`. */
export type HookMessage = {
  /** The `name` given to `onShutdown()`, else the function's or the object's own, else `hook 1` by its place. */
  readonly name: string
  /** How it ended, from `asyncStart` on. */
  status?: 'completed' | 'failed'
  /** What it threw, or a `PostInvokeError` (`ERR_SHUTDOWN_TIMEOUT`) when it did not end in time. */
  error?: unknown
}

/** Every channel by name, and what its messages are. All but `middy-post-invoke:task:unstarted` are tracing channels. */
export type ChannelMessages = {
  /** A task runs. */
  'middy-post-invoke:task': TaskMessage
  /** A task is not started. */
  'middy-post-invoke:task:unstarted': UnstartedTaskMessage
  /** The environment is held. */
  'middy-post-invoke:hold': HoldMessage
  /** The environment ends. */
  'middy-post-invoke:shutdown': ShutdownMessage
  /** A shutdown hook runs. */
  'middy-post-invoke:hook': HookMessage
}

type Traced = 'task' | 'hold' | 'shutdown' | 'hook'

/** Made at their first use: it takes 20 µs each, and that is no time of the cold start. */
const channels: { [Name in Traced]?: TracingChannel<unknown, object> } = {}
let unstarted: Channel | undefined

const diagnostics = () => builtIn('node:diagnostics_channel')

/**
 * One message through its channels: `start` and `end` around the call, later `asyncStart` and `asyncEnd`, before them
 * `error`. Not `tracePromise`: what is no longer waited for must end here, though its promise may never settle.
 */
export type Trace<Message extends object> = {
  /** Calls `fn` inside of what subscribers have bound to `start`. */
  run<Result>(fn: () => Result): Result
  /** To be called once. Subscribers are called in the same stores. */
  end(result: Partial<Message>): void
}

/** @returns a trace of something about to begin, or `undefined` where nobody would hear of it. */
export function trace<Name extends Traced>(
  name: Name,
  describe: () => ChannelMessages[`middy-post-invoke:${Name}`],
): Trace<ChannelMessages[`middy-post-invoke:${Name}`]> | undefined {
  const channel = channels[name] ?? diagnostics().tracingChannel(`middy-post-invoke:${name}`)
  channels[name] = channel
  if (!channel.hasSubscribers) return undefined
  const message = describe()
  let scope: AsyncContext | undefined
  return {
    run(fn) {
      return channel.start.runStores(message, () => {
        scope = asyncContext()
        try {
          return fn()
        } finally {
          channel.end.publish(message)
        }
      })
    },
    end(result) {
      scope?.runInAsyncScope(() => {
        Object.assign(message, result)
        if ('error' in result) channel.error.publish(message)
        channel.asyncStart.publish(message)
        channel.asyncEnd.publish(message)
      })
    },
  }
}

export const tellUnstarted = (message: () => UnstartedTaskMessage): void => {
  unstarted ??= diagnostics().channel('middy-post-invoke:task:unstarted')
  if (unstarted.hasSubscribers) unstarted.publish(message())
}
