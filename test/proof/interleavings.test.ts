// The package in every order of events: invocations, handlers, tasks, streams, time, the companion, freezing, signals and the
// end of the process. What is made up, and what has to hold, is in support/interleavings.ts.
//
// A failure tells its seed and its path. To see that one again:
//   POST_INVOKE_TEST_SEED=7 POST_INVOKE_TEST_PATH=17:0:2 npm run jest -- test/proof/interleavings.test.ts -t random
import { describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { type Break, bundleCore, type Load } from '../support/core-bundle.ts'
import { type Setting, tell } from '../support/interleavings.ts'
import { randomRuns } from '../support/random-runs.ts'
import { type Extent, explore, places } from '../support/random-stories.ts'

it('holds in stories at random', async () => {
  const load = await bundleCore()
  const start = performance.now()
  const { details, ...figures } = await explore(load, randomRuns({ seed: 1, runs: 12_000 }))
  if (details.failed) throw new Error(fc.defaultReportMessage(details))
  console.info(`${JSON.stringify(figures)} in ${Math.round(performance.now() - start)} ms`)
  expect(figures.steps).toBeGreaterThan(0)
}, 3_600_000)

/** Every story that differs in its first `depth` steps; after these all comes to its end. */
const everyStory = async (load: Load, setting: Setting, depth: number) => {
  const states = new Set<string>()
  let stories = 0
  let prefix: number[] | undefined = []
  while (prefix) {
    const counts: number[] = []
    const given: number[] = prefix
    const story = await tell(load, setting, (common, rare) => {
      if (counts.length === depth) return undefined
      counts.push(common + rare)
      return given[counts.length - 1] ?? 0
    })
    stories++
    for (const state of story.states) states.add(state)
    // The next one: the last step that could go another way goes it.
    const taken: number[] = counts.map((_, index) => given[index] ?? 0)
    let last = taken.length - 1
    while (last >= 0 && (taken[last] as number) + 1 >= (counts[last] as number)) last--
    prefix = last < 0 ? undefined : [...taken.slice(0, last), (taken[last] as number) + 1]
  }
  return { stories, states: states.size }
}

const DEPTH = Number(process.env.POST_INVOKE_TEST_DEPTH ?? 3)

describe(`holds in every story of ${DEPTH} steps`, () => {
  it.each(places)(
    '%s, %s',
    async (client, companion) => {
      const load = await bundleCore()
      const start = performance.now()
      let stories = 0
      let states = 0
      for (const wrapper of ['plain', 'Middy'] as const) {
        for (const tasks of ['end', 'hang'] as const) {
          const setting: Setting = {
            client,
            companion,
            wrapper,
            tasks,
            options: { shutdown: true, onDeadline: 'carry' },
            onTaskError: 'takes time',
            hook: 'ends',
          }
          const found = await everyStory(load, setting, DEPTH)
          stories += found.stories
          states += found.states
        }
      }
      console.info(
        `${client}, ${companion}: ${stories} stories, ${states} states, ${Math.round(performance.now() - start)} ms`,
      )
      expect(stories).toBeGreaterThan(100)
    },
    3_600_000,
  )
})

/** Each breaks one thing that has to hold, and with what it shows. */
const breaks: [what: string, shows: RegExp, how: Break, extent?: Extent][] = [
  [
    'a task runs twice',
    /has run twice/,
    {
      file: 'middleware/deferred-task.ts',
      text: ': asyncContext.runInAsyncScope(task.run, undefined, context)',
      by: ': (asyncContext.runInAsyncScope(task.run, undefined, context), task.run(context))',
    },
  ],
  [
    'tasks are awaited before an answer that needs not wait',
    /runs before its answer/,
    { file: 'middleware/process.ts', text: 'const before = mustAwait &&', by: 'const before =' },
  ],
  [
    'tasks are not awaited where nothing holds',
    /was to be waited for before the answer/,
    { file: 'middleware/process.ts', text: "options.withoutCompanion === 'await'", by: 'false' },
  ],
  [
    'settled is told as the response leaves',
    /unfinished, of which nobody has told|before the answer/,
    { file: 'middleware/invocation.ts', text: 'state = LEFT\n', by: 'state = LEFT; reporter?.settle()\n' },
  ],
  [
    'the gate does not wait for tasks',
    /unfinished, of which nobody has told/,
    { file: 'middleware/process.ts', text: "(host.companion.name === 'gate' && settled) || accepted", by: 'accepted' },
  ],
  [
    'settled is not told',
    /held with nothing left to do|never over/,
    { file: 'middleware/invocation.ts', text: '    reporter?.settle()\n', by: '' },
  ],
  [
    'invocations are not counted',
    /held with nothing left to do|never over/,
    { file: 'middleware/companion-process.ts', text: 'number ??= ++count', by: 'number ??= count' },
  ],
  [
    'another invocation is let go',
    /that is another invocation/,
    { file: 'middleware/companion-process.ts', text: '.exec(id))', by: ".exec('x' + id))" },
  ],
  [
    'the hold has another deadline',
    /held until another deadline/,
    {
      file: 'middleware/invocation.ts',
      text: 'reporter?.hold(deadline - now())',
      by: 'reporter?.hold(2 * deadline - now())',
    },
  ],
  [
    'a task that does not end is waited for',
    /never over|named 0 times|held/,
    {
      file: 'middleware/deferred-task.ts',
      text: "for (const task of tasks) task.finish?.({ status: 'abandoned', error: controllerOf(task).signal.reason ?? reason })",
      by: '',
    },
  ],
  [
    'the answer is another',
    /the answer has changed/,
    {
      file: 'middleware/with-post-invoke.ts',
      text: 'return await result',
      by: 'return { ...((await result) as object) }',
    },
  ],
  [
    'a timer is left',
    /timers are left/,
    {
      file: 'middleware/invocation.ts',
      text: '    await stack.drain()\n    clearTimeout(timeLimit)\n',
      by: '    await stack.drain()\n',
    },
  ],
  [
    'what is dropped is not named',
    /named 0 times|of which nobody has told/,
    {
      file: 'middleware/invocation.ts',
      text: 'log(method, `tasks of',
      by: "if (status !== 'dropped') log(method, `tasks of",
    },
  ],
  [
    'what has not started is forgotten by the last words',
    /named 0 times/,
    {
      file: 'middleware/invocation.ts',
      text: 'stack.inOrder([...tasks])',
      by: 'stack.inOrder([...tasks].filter(({ finish }) => finish))',
    },
  ],
  [
    'what has been dropped stays in the last words',
    /named 2 times/,
    {
      file: 'middleware/invocation.ts',
      text: 'time.onChange?.() // what has been named now is not to be named again\n',
      by: '',
    },
  ],
  [
    'an invocation that is late takes the last words of the next one along',
    /named 0 times/,
    { file: 'middleware/companion-process.ts', text: 'if (author <= order) writeWords', by: 'writeWords' },
  ],
  [
    'a task that has ended at shutdown stays in the last words',
    /has ended well and is named/,
    {
      file: 'middleware/process-end.ts',
      text: 'for (const invocation of invocations) invocation.tellUnfinished()',
      by: '',
    },
  ],
  [
    'carried tasks run at once, and not in the time of the next invocation',
    /runs in frozen time/,
    {
      file: 'middleware/invocation.ts',
      text: '    reporter?.settle()\n',
      by: '    reporter?.settle()\n    if (state === CARRIED) void turn().then(turn).then(() => invocation.drainWithin({ ...time, abortAt: Infinity, letGoAt: Infinity }))\n',
    },
  ],
  [
    'onTaskError is not waited for',
    /let go while onTaskError for t\d+ is not over|runs in frozen time/,
    {
      file: 'middleware/invocation.ts',
      text: 'return inTime(callOnTaskError(task, error))',
      by: 'void inTime(callOnTaskError(task, error))',
    },
    'all',
  ],
  [
    'onTaskError is told twice',
    /onTaskError is told of t\d+ twice/,
    {
      file: 'middleware/invocation.ts',
      text: 'return inTime(callOnTaskError(task, error))',
      by: 'inTime(callOnTaskError(task, error))\n    return inTime(callOnTaskError(task, error))',
    },
    'all',
  ],
  [
    'handed-off work is not waited for',
    /let go while handed-off work is not over/,
    { file: 'middleware/invocation.ts', text: 'return inTime(handedOff)', by: 'return void handedOff' },
    'all',
  ],
  [
    'handed-off work is given the whole of the time',
    /handed-off work is given too much time/,
    {
      file: 'middleware/invocation.ts',
      text: 'host.handedOff(Date.now() + time.abortAt - now(), invocation)',
      by: 'host.handedOff(Date.now() + deadline - now(), invocation)',
    },
    'all',
  ],
  [
    'shutdown hooks run before the tasks',
    /the shutdown hook runs before t\d+/,
    {
      file: 'middleware/process-end.ts',
      text: 'await all(invocations',
      by: 'void all(invocations',
    },
    'all',
  ],
  [
    'a shutdown hook stays after it has run',
    /the shutdown hook runs twice/,
    {
      file: 'middleware/on-shutdown.ts',
      text: 'await runHook(hook, until)',
      by: 'await runHook(hook, until).then(() => runHook(hook, until))',
    },
    'all',
  ],
  [
    'what is deferred while hooks run is not named',
    /was never run and is named 0 times/,
    { file: 'middleware/process-end.ts', text: "logAll('the environment ends', host.log.error)", by: '' },
    'all',
  ],
  [
    'without a drain nobody names what SIGTERM ends',
    /named 0 times/,
    {
      file: 'middleware/process-end.ts',
      text: 'if (runtimeApi && !host.companion.reporter) logAll',
      by: 'if (false) logAll',
    },
    'all',
  ],
  [
    'what fails after the invocation is settled stays in the last words',
    /named 2 times|has ended well and is named/,
    {
      file: 'middleware/invocation.ts',
      text: '!teller || ',
      by: '!teller || state === SETTLED || ',
    },
    'all',
  ],
  [
    'a process that exits says nothing',
    /named 0 times/,
    { file: 'middleware/process-end.ts', text: "logAll('the process ends')", by: '' },
  ],
]

describe('a broken package is noticed', () => {
  it.each(breaks)(
    '%s',
    async (_, shows, how, extent = 'without hooks') => {
      const runs = { seed: 1, runs: 25_000, path: undefined, limit: 120_000 }
      const { details } = await explore(await bundleCore(how), runs, extent)
      expect(details.failed).toBe(true)
      expect((details.errorInstance as Error).message.split('\n')[0]).toMatch(shows)
    },
    300_000,
  )
})
