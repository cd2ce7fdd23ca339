// The soak test's function: each event says what to do, and each step is written to standard output as a line of its own,
// `SOAK step name`. The names of tasks are never used twice.
import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { defer, onShutdown } from 'middy-post-invoke'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc')

// Not through the console: a runtime client may hold its lines back.
export const say = (step, name) => process.stdout.write(`SOAK ${step} ${name}\n`)

const { SOAK_HOOKS, SOAK_ORDER, SOAK_CONCURRENCY } = process.env

if (SOAK_HOOKS) onShutdown(() => say('hook', process.pid))

export const options = {
  order: SOAK_ORDER,
  concurrency: Number(SOAK_CONCURRENCY),
}

const burn = milliseconds => {
  const end = performance.now() + milliseconds
  while (performance.now() < end);
}

/** Those that return or throw have run; of the others the books want a report. */
const kinds = {
  quick() {},
  burn: ({ ms }) => burn(ms),
  sleep: ({ ms }) => sleep(ms),
  throws() {
    throw new Error('thrown by a task')
  },
  rejects: async ({ ms }) => {
    await sleep(ms)
    throw new Error('rejected by a task')
  },
  nested({ inner }, context) {
    for (const entry of inner) deferEntry(entry, context)
  },
  never: () => new Promise(() => {}),
  'never-timer': () => new Promise(() => setInterval(() => {}, 60_000)),
  aborts: (_, __, { signal }) =>
    new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
  'unhandled-rejection': async ({ ms }) => {
    Promise.reject(new Error('nobody handles this'))
    await sleep(ms)
  },
  'unhandled-rejection-quick'() {
    Promise.reject(new Error('nobody handles this'))
  },
  'async-throw': async ({ ms }) => {
    setTimeout(() => {
      throw new Error('thrown asynchronously')
    }, 2)
    await sleep(ms)
  },
  exit: async ({ ms }) => {
    await sleep(ms)
    process.exit(1)
  },
  'kills-itself'() {
    process.kill(process.pid, 'SIGKILL')
  },
}

const fails = new Set(['throws', 'rejects'])

const deferEntry = (entry, context) => {
  const { name, kind, on, timeout, imported } = entry
  const task = given => {
    say('start', name)
    const end = () => say('end', name)
    try {
      const result = kinds[kind](entry, context, given)
      if (result === undefined) return end()
      return result.then(end, error => {
        if (fails.has(kind)) end()
        throw error
      })
    } catch (error) {
      end()
      throw error
    }
  }
  const deferIt = imported ? defer : context.defer
  if (kind === 'promise')
    deferIt(
      sleep(entry.ms).then(() => say('end', name)),
      { name, timeout },
    )
  else deferIt(task, { name, on, timeout })
  say('defer', name)
}

/** What the handler does before it answers. */
export const act = async (event, context) => {
  say('handler', event.n)
  for (const entry of event.tasks) deferEntry(entry, context)
  if (event.memory) {
    collectGarbage()
    say('heap', process.memoryUsage().heapUsed)
  }
  if (event.wait) await sleep(event.wait)
  if (event.exits) process.exit(1)
  if (event.hangs) await sleep(3_600_000)
  if (event.throws) throw new Error('thrown by the handler')
}

export const deferInBody = (event, context) => {
  for (const entry of event.bodyTasks ?? []) deferEntry(entry, context)
}

/** A middleware that ends the request early where the event says so. */
export const early = place => ({
  before: ({ event }) => (event.early === `before-${place}` ? { early: event.n } : undefined),
  after: ({ event }) => (event.early === `after-${place}` ? { early: event.n } : undefined),
  onError: ({ event }) => (event.early === `onError-${place}` ? { early: event.n } : undefined),
})
