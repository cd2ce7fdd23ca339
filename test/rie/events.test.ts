// The sandbox beside the emulator, event by event: what is registered, asked and posted, what function and companion log, and
// how an environment ends. The same function, the same invocations, the same clients of AWS.
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from '@jest/globals'
import { createSandbox, type SandboxEvent } from '../../dist/sandbox/index.js'
import { realClient } from '../support/require-runtime-clients.ts'
import { type RuntimeClient, startEmulator } from './rie.ts'

const taskRoot = fileURLToPath(new URL('../fixtures/rie', import.meta.url))
const layer = fileURLToPath(new URL('../../dist/layer', import.meta.url))
const handler = 'events.handler'
/** The emulator counts the Init too. */
const timeoutOf = (events: object[]) => (JSON.stringify(events).includes('hangs') ? 4_000 : 15_000)
/** The emulator answers before it has reset what has failed, and an invocation that comes then fails too. */
const RESET_MS = 2_000
/**
 * Rarely the emulator cancels what it waits for, without a reason, only after that reset: then the next environment's Init
 * fails, whatever is in it. What it did then says nothing about Lambda.
 */
const LATE_CANCEL = /Canceling flows: %!s\(<nil>\).*ErrGateCanceled/s

type Companion = 'layer' | 'internal' | 'embedded' | 'off'
type Case = { client: RuntimeClient; companion: Companion; hook: boolean }

const cases: Case[] = [
  ...(['RIC 4', 'RIC 3'] as const).flatMap(client =>
    (['layer', 'internal', 'off'] as const).flatMap(companion => [
      { client, companion, hook: false },
      ...(companion === 'off' ? [] : [{ client, companion, hook: true }]),
    ]),
  ),
  { client: 'RIC 4', companion: 'embedded', hook: false },
  { client: 'RIC 4', companion: 'embedded', hook: true },
]

/** Each in an environment of its own, before an invocation that goes well. */
const scenarios: Record<string, object[]> = {
  'three invocations, one of which fails': [{}, { handler: 'fails' }, {}],
  'a task that fails': [{ task: 'fails' }, {}],
  'a handler that ends its process': [{ handler: 'exits' }, {}],
  'a task that ends its process': [{ task: 'exits' }, {}],
  'a task that hangs': [{ task: 'hangs' }, {}],
}

const variables = ({ companion, hook }: Case): Record<string, string> => ({
  ...(companion !== 'layer' && { POST_INVOKE_COMPANION: companion }),
  ...(hook && { WITH_HOOK: '1' }),
})

// --- What happened, in words

const A_PROCESS_FAILED = 'a process has failed'

/** What function and companion have logged, without what differs each time. */
const logged = (line: string): string[] => {
  const [, text] = /MARK (.*?)"?$/.exec(line) ?? /(middy-post-invoke: .*)/.exec(line) ?? []
  return text === undefined ? [] : [`log: ${text.replace(/[0-9a-f]{8}-[\w-]{27}/g, 'ID').replace(/:? +at .*/, '')}`]
}

const inTheEmulator = async (given: Case, events: object[], isSecond = false): Promise<string[]> => {
  const emulator = await startEmulator({
    runtimeClient: given.client,
    layer: given.companion === 'layer',
    handler,
    environment: { ...variables(given), AWS_LAMBDA_FUNCTION_TIMEOUT: String(timeoutOf(events) / 1_000) },
  })
  try {
    for (const [index, event] of events.entries()) {
      const { statusCode, body } = await emulator.invoke(event)
      if (statusCode === 200 && typeof body !== 'string') continue
      await emulator.ended(index + 1)
      await sleep(RESET_MS)
    }
    await emulator.stop()
  } finally {
    emulator.kill()
  }
  if (LATE_CANCEL.test(emulator.log) && !isSecond) {
    console.warn('The emulator has cancelled an Init by mistake: once more.')
    return inTheEmulator(given, events, true)
  }
  const facts: [RegExp, (match: RegExpExecArray) => string][] = [
    [
      / (External|Internal) agent (\S+) \S+ registered, subscribed to \[(.*)\]/,
      ([, kind, name, subscribed]) =>
        `${kind?.toLowerCase()} extension ${name} registers: ${subscribed || 'no events'}`,
    ],
    [/API request - GET \/2018-06-01\/runtime\/invocation\/next/, () => 'runtime: next'],
    [/API request - GET \/2020-01-01\/extension\/event\/next/, () => 'extension: next'],
    [/API request - POST \/2018-06-01\/runtime\/invocation\/\S+\/(response|error)/, ([, kind]) => `runtime: ${kind}`],
    [/INVOKE START/, () => 'INVOKE'],
    [/Reset initiated: Timeout/, () => 'the function has timed out'],
    [/Reset initiated: ReleaseFail/, () => A_PROCESS_FAILED],
    [/Received signal/, () => 'the environment ends'],
    [/Sending SIGKILL to (runtime|extension)-/, ([, whom]) => `SIGKILL to the ${whom}`],
    [/Agent \S+ \S+ is registered for the shutdown event/, () => 'extension: SHUTDOWN'],
    [/Handling termination for extension-/, () => 'extension: ended'],
  ]
  return emulator.log.split('\n').flatMap(line => {
    for (const [pattern, words] of facts) {
      const match = pattern.exec(line)
      if (match) return [words(match)]
    }
    return logged(line)
  })
}

const wordsFor = (event: SandboxEvent): string[] => {
  const who = (process: string) => (process === 'function' ? 'runtime' : 'extension')
  switch (event.type) {
    case 'extension-registered':
      return [`${event.kind} extension ${event.name} registers: ${event.events.join(' ') || 'no events'}`]
    case 'runtime-next':
      return ['runtime: next']
    case 'extension-next':
      return ['extension: next']
    case 'response':
      return [`runtime: ${event.kind}`]
    case 'invoke':
      return ['INVOKE']
    case 'reset':
      return [event.reason === 'TIMEOUT' ? 'the function has timed out' : A_PROCESS_FAILED]
    case 'shutdown-started':
      return event.reason === 'SPINDOWN' ? ['the environment ends'] : []
    case 'sigkill':
      return [`SIGKILL to the ${who(event.process)}`]
    case 'shutdown-event':
      return ['extension: SHUTDOWN']
    case 'process-exited':
      return who(event.process) === 'extension' ? ['extension: ended'] : []
    default:
      return []
  }
}

const inTheSandbox = async (given: Case, events: object[]): Promise<string[]> => {
  const told: string[] = []
  const sandbox = await createSandbox({
    taskRoot,
    ...realClient(given.client === 'RIC 4' ? 'ric4' : 'ric3').options(handler),
    layers: given.companion === 'layer' ? [layer] : [],
    environment: variables(given),
    timeout: timeoutOf(events),
    onEvent: event => void told.push(...wordsFor(event)),
    onLog: ({ text }) => void told.push(...logged(text)),
  })
  try {
    for (const event of events) {
      const { errorType } = await sandbox.invoke(event)
      // An event of the sandbox's is the answer, whoever has written it; here it is what the runtime posts.
      if (isOfLambda(errorType)) told.splice(told.lastIndexOf('runtime: error'), 1)
    }
    await sandbox.shutdown()
  } finally {
    await sandbox[Symbol.asyncDispose]()
  }
  return told
}

const isOfLambda = (errorType = '') => /^(Sandbox|Runtime)\./.test(errorType)

// --- The comparison

const LOG = /^log: /
const PACKAGE_LOG = /^log: middy-post-invoke: /
const COMPANION_LOG = /^log: middy-post-invoke: the function's process ended /

/** Where the function's process dies, the extension notices it as Lambda does: either may be the first. */
const inEitherOrder = (steps: string[], hasFailed: boolean) =>
  hasFailed
    ? steps
        .join('\n')
        .replaceAll('extension: SHUTDOWN\nextension: next', 'extension: next\nextension: SHUTDOWN')
        .split('\n')
    : steps

/** What each of them does, in its order. What Lambda does is with the runtime. */
const byActor = (steps: string[]) => ({
  runtime: steps.filter(step => !LOG.test(step) && !step.includes('extension')),
  extension: inEitherOrder(
    steps.filter(step => !LOG.test(step) && step.includes('extension')),
    steps.includes(A_PROCESS_FAILED),
  ),
  functionLog: steps.filter(step => LOG.test(step) && !COMPANION_LOG.test(step)),
  companionLog: steps.filter(step => COMPANION_LOG.test(step)),
})

/**
 * All of it in one order. A runtime that nobody waits for asks for its next invocation at any time, and so does an extension
 * at Init. The package logs in the moment in which it lets go. Where a process dies, several notice it at once.
 */
const inOrder = (steps: string[]) => {
  if (steps.includes(A_PROCESS_FAILED)) return undefined
  const isHeldByExtension = steps.some(step => /registers: .*INVOKE/.test(step))
  return steps.filter(
    (step, index) =>
      !PACKAGE_LOG.test(step) &&
      !(step === 'runtime: next' && isHeldByExtension) &&
      !(step === 'extension: next' && !steps.slice(0, index).includes('INVOKE')),
  )
}

/** Where SIGTERM comes, a busy machine decides whether the function's process ends by itself in time. */
const patiently = ({ companion, hook }: Case, steps: string[]) => {
  const end = steps.indexOf('the environment ends')
  const isSignalled = hook || companion === 'layer' || companion === 'internal'
  return isSignalled ? steps.filter((step, index) => index < end || step !== 'SIGKILL to the runtime') : steps
}

describe.each(cases)('$client, $companion, a shutdown hook: $hook', given => {
  // What a hook changes is seen in one of them.
  test.each(Object.keys(scenarios).slice(0, given.hook ? 1 : undefined))('%s', async name => {
    const events = scenarios[name] as object[]
    const all = await Promise.all([inTheEmulator(given, events), inTheSandbox(given, events)])
    const [emulator, sandbox] = all.map(steps => patiently(given, steps)) as [string[], string[]]
    expect(byActor(sandbox)).toEqual(byActor(emulator))
    expect(inOrder(sandbox)).toEqual(inOrder(emulator))
  })
})
