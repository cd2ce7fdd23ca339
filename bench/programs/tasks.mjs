// The task stack alone, in one process: each line of standard output is `{contender, count, nanoseconds}` of one round.
// First argument: rounds. The package runs with a runtime client that is nothing but a promise, so that a settled
// invocation is one that has been awaited.
import { AsyncLocalStorage } from 'node:async_hooks'
import middy from '@middy/core'
import PLimit from 'p-limit'
import PQueue from 'p-queue'

const rounds = Number(process.argv[2])
const COUNTS = [1, 10, 100, 1_000, 10_000, 100_000]
/** So many tasks make one measurement, in as many invocations as that takes. */
const TASKS = 10_000

Object.assign(process.env, { AWS_LAMBDA_RUNTIME_API: '127.0.0.1:9', AWS_EXECUTION_ENV: 'AWS_Lambda_nodejs24.x' })
const store = { run: async (_, fn) => fn(), getRequestId: () => 'bench' }
globalThis.awslambda = { InvokeStore: store, streamifyResponse: () => {} }
const { default: postInvoke } = await import('middy-post-invoke')

const task = async () => {}
let onDeferred = () => {}
const context = { awsRequestId: 'bench', getRemainingTimeInMillis: () => 900_000 }

const handler = middy()
  .use(postInvoke())
  .handler(async (count, { defer }) => {
    for (let n = 0; n < count; n++) defer(task)
    onDeferred()
  })

/** Each defers `count` tasks and then runs them, one at a time. */
const contenders = {
  'bare promise loop': async count => {
    const tasks = []
    for (let n = 0; n < count; n++) tasks.push(task)
    onDeferred()
    for (let next = tasks.pop(); next; next = tasks.pop()) await next()
  },
  'loop with a snapshot each': async count => {
    const tasks = []
    for (let n = 0; n < count; n++) tasks.push({ enter: AsyncLocalStorage.snapshot(), task })
    onDeferred()
    for (let next = tasks.pop(); next; next = tasks.pop()) await next.enter(next.task)
  },
  'p-limit': async count => {
    const limit = PLimit(1)
    const tasks = []
    for (let n = 0; n < count; n++) tasks.push(limit(task))
    onDeferred()
    await Promise.all(tasks)
  },
  'p-queue': async count => {
    const queue = new PQueue({ concurrency: 1 })
    for (let n = 0; n < count; n++) queue.add(task)
    onDeferred()
    await queue.onIdle()
  },
  'middy-post-invoke': count => globalThis.awslambda.InvokeStore.run({}, () => handler(count, { ...context })),
}

const time = async (run, count) => {
  const invocations = Math.max(1, TASKS / count)
  globalThis.gc()
  const start = performance.now()
  for (let n = 0; n < invocations; n++) await run(count)
  return ((performance.now() - start) / invocations) * 1e6
}

const write = line => console.log(JSON.stringify(line))

for (const warmUp of [true, false]) {
  for (let round = 0; round < (warmUp ? Math.min(2, rounds - 1) : rounds); round++) {
    for (const count of COUNTS) {
      for (const [contender, run] of Object.entries(contenders)) {
        const nanoseconds = await time(run, count)
        if (!warmUp) write({ contender, count, nanoseconds })
      }
    }
    // What an invocation costs that has no task is no task's cost.
    const nanoseconds = await time(() => contenders['middy-post-invoke'](0), 10)
    if (!warmUp) write({ contender: 'middy-post-invoke', count: 0, nanoseconds })
  }
}

for (const [contender, run] of Object.entries(contenders)) {
  const count = 100_000
  let before = 0
  let after = 0
  onDeferred = () => {
    globalThis.gc()
    after = process.memoryUsage().heapUsed
  }
  globalThis.gc()
  before = process.memoryUsage().heapUsed
  await run(count)
  onDeferred = () => {}
  write({ contender, bytes: (after - before) / count })
}

// The package ends a function's process that exits between two invocations by SIGKILL. This one is no function's.
process.removeAllListeners('exit')
