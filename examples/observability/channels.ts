// Says how long each task took: what a tool does that watches. Import it before the handler is first called.
import { type TracingChannelSubscribers, tracingChannel } from 'node:diagnostics_channel'
import type { TaskMessage } from 'middy-post-invoke'

const started = new WeakMap<TaskMessage, number>()

const subscribers: Partial<TracingChannelSubscribers<TaskMessage>> = {
  start: task => void started.set(task, performance.now()),
  asyncEnd: task => {
    const milliseconds = performance.now() - (started.get(task) ?? Number.NaN)
    console.log(`${task.name} of request ${task.awsRequestId} has ${task.status} after ${milliseconds.toFixed()} ms`)
  },
}

tracingChannel<unknown, TaskMessage>('middy-post-invoke:task').subscribe(
  subscribers as TracingChannelSubscribers<TaskMessage>,
)
