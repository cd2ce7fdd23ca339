// What a tool that watches subscribes to. Compiled, never run.
import { tracingChannel } from 'node:diagnostics_channel'
import type {
  ChannelMessages,
  HoldMessage,
  HookMessage,
  ShutdownMessage,
  TaskMessage,
  UnstartedTaskMessage,
} from '../../src/index.ts'
import { check, type Same } from './expect.ts'

check<Same<ChannelMessages['middy-post-invoke:task'], TaskMessage>>()
check<Same<ChannelMessages['middy-post-invoke:task:unstarted'], UnstartedTaskMessage>>()
check<Same<ChannelMessages['middy-post-invoke:hold'], HoldMessage>>()
check<Same<ChannelMessages['middy-post-invoke:shutdown'], ShutdownMessage>>()
check<Same<ChannelMessages['middy-post-invoke:hook'], HookMessage>>()

tracingChannel<string, TaskMessage>('middy-post-invoke:task').start.subscribe(message => {
  const task = message as TaskMessage
  check<Same<typeof task.status, 'completed' | 'failed' | 'abandoned' | undefined>>()
  // @ts-expect-error a message tells, it is not told
  task.name = 'mail'
})

declare const unstarted: UnstartedTaskMessage
check<Same<typeof unstarted.status, 'carried' | 'dropped' | 'skipped'>>()
// @ts-expect-error what is not started has thrown nothing
unstarted.error
