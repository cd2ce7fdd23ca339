// `post-invoke verify`: calls functions that `post-invoke template --verify` has described, deployed in an account of the
// user's, and compares when the caller had its answer with when the tasks ended.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import { version } from '../version.ts'
import { type Aws, createAws } from './aws.ts'
import { CommandError, EXIT_FAILED } from './errors.ts'
import { type Style, styled } from './terminal.ts'
import { seconds } from './values.ts'
import { fromLine, type VerifyAnswer, type VerifyMoment } from './verify-messages.ts'
import { verifyFunctions } from './verify-template.ts'

type VerifyOptions = {
  readonly region?: string
  readonly profile?: string
  readonly taskTime: number
  readonly wait: number
  readonly json?: boolean
}

export const addVerifyCommand = (program: Command, finish: (code: number) => void) => {
  program
    .command('verify')
    .summary('see on AWS itself that tasks run after the response')
    .description(
      'Calls the functions of `post-invoke template --verify` by your AWS CLI, and compares when the caller had its answer with when the tasks ended.',
    )
    .argument('[functions...]', 'their names (default: all of that template)')
    .option('--region <name>', 'for the AWS CLI')
    .option('--profile <name>', 'for the AWS CLI')
    .option('--task-time <seconds>', 'how long the tasks take', seconds, 5)
    .option('--wait <seconds>', 'how long to wait for the log', seconds, 120)
    .option('--json', 'print JSON')
    .action(async (given: string[], options: VerifyOptions) => finish(await verify(given, options)))
}

/** Cold, most of the time, and then warm: the environment has been held and frozen in between. */
const INVOCATIONS = 2

export type Verdict = {
  readonly function: string
  readonly ok: boolean
  readonly faults: readonly string[]
  readonly runtime: string
  readonly architecture: string
  readonly region: string
  readonly node: string
  readonly client: string
  readonly companion: string
  readonly version: string
  readonly invocations: readonly Measured[]
}

/** Milliseconds. What the caller saw is on the clock here, the rest on the function's own: only durations are compared. */
export type Measured = {
  /** How long the caller waited for its answer, the AWS CLI's own start included. */
  readonly answeredAfter: number
  /** When the first task started and the last one ended, after the handler was called. */
  readonly tasksStarted?: number
  readonly tasksEnded?: number
  /** How long the invocation lasted, as Lambda reports it. */
  readonly lasted?: number
}

const verify = async (given: readonly string[], options: VerifyOptions): Promise<number> => {
  const aws = createAws(options)
  const names = given.length > 0 ? given : verifyFunctions
  const verdicts: Verdict[] = []
  if (!options.json) console.log(heading())
  for (const name of names) {
    const verdict = await verifyFunction(name, aws, options)
    verdicts.push(verdict)
    if (!options.json) console.log(`\n${describe(verdict)}`)
  }
  const ok = verdicts.every(verdict => verdict.ok)
  if (options.json) console.log(JSON.stringify({ version, ok, note: NOTE, functions: verdicts }, rounded, 2))
  else console.log(`\n${ok ? styled('green', 'It works here.') : styled('red', 'It does not work here.')}`)
  return ok ? 0 : EXIT_FAILED
}

const NOTE =
  'This command has been tested with a local Lambda and with the emulator of Lambda, not on AWS itself: what you see is news.'

const heading = () => `post-invoke verify ${version}, on ${process.platform}, with Node.js ${process.versions.node}
${NOTE} It holds no account number and can be pasted into an issue.`

const verifyFunction = async (name: string, aws: Aws, options: VerifyOptions): Promise<Verdict> => {
  const configuration = await aws('lambda', 'get-function-configuration', ['--function-name', name])
  const group: string = configuration.LoggingConfig?.LogGroup ?? `/aws/lambda/${name}`
  const invocations: Measured[] = []
  let answer: VerifyAnswer | undefined
  let companion = 'unknown'
  for (let index = 0; index < INVOCATIONS; index += 1) {
    const sentAt = Date.now()
    const called = await call(name, aws, options.taskTime)
    answer = called.answer
    const log = await readLog(group, called.answer.requestId, sentAt, aws, options.wait * 1_000)
    invocations.push({ answeredAfter: called.answeredAfter, ...log.measured })
    if (companion === 'unknown' && log.stream) companion = await readCompanion(group, log.stream, aws)
  }
  const faults = invocations.flatMap((measured, index) =>
    faultsOf(measured).map(fault => `call ${index + 1}: ${fault}`),
  )
  return {
    function: name,
    ok: faults.length === 0,
    faults,
    runtime: configuration.Runtime ?? 'an image',
    architecture: configuration.Architectures?.[0] ?? 'unknown',
    region: String(configuration.FunctionArn ?? '').split(':')[3] || 'unknown',
    node: answer?.node ?? 'unknown',
    client: answer?.client ?? 'unknown',
    companion,
    version: answer?.version ?? 'unknown',
    invocations,
  }
}

const call = async (name: string, aws: Aws, taskSeconds: number) => {
  const folder = mkdtempSync(join(tmpdir(), 'post-invoke-verify-'))
  const [payload, output] = [join(folder, 'event.json'), join(folder, 'answer.json')]
  try {
    writeFileSync(payload, JSON.stringify({ milliseconds: taskSeconds * 1_000 }))
    const startedAt = performance.now()
    await aws('lambda', 'invoke', ['--function-name', name, '--payload', `fileb://${payload}`, output])
    const answeredAfter = performance.now() - startedAt
    return { answeredAfter, answer: parseAnswer(name, readFileSync(output, 'utf8')) }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const parseAnswer = (name: string, text: string): VerifyAnswer => {
  try {
    const answer = JSON.parse(text)
    if (answer.verify === 1 && typeof answer.requestId === 'string') return answer
  } catch {}
  throw new CommandError(
    `Expected ${name} to be a function of post-invoke template --verify, but it answered ${JSON.stringify(text.slice(0, 200))}.`,
  )
}

type Log = { readonly stream?: string; readonly measured: Omit<Measured, 'answeredAfter'> }

const POLL_MS = 1_000
/** The clocks here and there may differ. */
const SKEW_MS = 300_000

/** What the log says of a request, once it is whole, or once there has been time for it. */
const readLog = async (group: string, requestId: string, sentAt: number, aws: Aws, wait: number): Promise<Log> => {
  const deadline = Date.now() + wait
  for (;;) {
    const args = ['--log-group-name', group, '--start-time', String(sentAt - SKEW_MS)]
    const { events = [] } = await aws('logs', 'filter-log-events', args)
    const own = (events as { message: string; logStreamName?: string }[]).filter(({ message }) =>
      message.includes(requestId),
    )
    const moments = own
      .flatMap(({ message }) => fromLine(message) ?? [])
      .filter(moment => moment.requestId === requestId)
    const lasted = own.flatMap(({ message }) => readReport(message) ?? [])[0]
    const stream = own.find(({ logStreamName }) => logStreamName !== undefined)?.logStreamName
    const isWhole = lasted !== undefined && moments.filter(({ what }) => what.endsWith(' ends')).length === TASKS
    if (isWhole || Date.now() > deadline) {
      return {
        ...(stream ? { stream } : {}),
        measured: { ...measure(moments), ...(lasted === undefined ? {} : { lasted }) },
      }
    }
    await sleep(POLL_MS)
  }
}

const TASKS = 2

const measure = (moments: readonly VerifyMoment[]) => {
  const starts = moments.filter(({ what }) => what.endsWith(' starts')).map(({ at }) => at)
  const ends = moments.filter(({ what }) => what.endsWith(' ends')).map(({ at }) => at)
  return {
    ...(starts.length > 0 ? { tasksStarted: Math.min(...starts) } : {}),
    ...(ends.length === TASKS ? { tasksEnded: Math.max(...ends) } : {}),
  }
}

/** Lambda's own line at the end of an invocation, as text or as JSON. */
export const readReport = (message: string): number | undefined => {
  const [, text] = /^REPORT RequestId: \S+\s.*?(?<!\w )Duration: ([\d.]+) ms/.exec(message) ?? []
  if (text !== undefined) return Number(text)
  if (!message.includes('"platform.report"')) return undefined
  try {
    return JSON.parse(message).record?.metrics?.durationMs
  } catch {
    return undefined
  }
}

/** What the init logged, at the beginning of the environment's stream. */
const readCompanion = async (group: string, stream: string, aws: Aws): Promise<string> => {
  const args = ['--log-group-name', group, '--log-stream-name', stream, '--start-from-head', '--limit', '100']
  const { events = [] } = await aws('logs', 'get-log-events', args)
  for (const { message } of events as { message: string }[]) {
    const [, kind] = /middy-post-invoke: companion: (\w+)/.exec(message) ?? []
    if (kind !== undefined) return kind
  }
  return 'unknown'
}

export const faultsOf = ({ answeredAfter, tasksStarted, tasksEnded, lasted }: Measured): string[] => {
  if (tasksStarted === undefined) return ['no task has started, as far as the log says']
  if (tasksEnded === undefined) return ['not every task has ended, as far as the log says']
  return [
    ...(answeredAfter < tasksEnded
      ? []
      : [`the caller had its answer after ${ms(answeredAfter)}, and the tasks had ended after ${ms(tasksEnded)}`]),
    ...(lasted === undefined
      ? ['the log has no REPORT of the invocation']
      : lasted >= tasksEnded
        ? []
        : [`the invocation lasted ${ms(lasted)}, and the tasks ended later: the environment was not held`]),
  ]
}

const SIGNS: Readonly<Record<'true' | 'false', readonly [Style, string]>> = {
  true: ['green', '✓'],
  false: ['red', '✗'],
}

const describe = (verdict: Verdict): string => {
  const { function: name, ok, faults, runtime, architecture, region, node, client, companion, invocations } = verdict
  const [style, sign] = SIGNS[`${ok}`]
  return [
    `${styled(style, sign)} ${name}: ${ok ? 'the caller had its answer while the tasks ran' : 'it is not as it should be'}`,
    ...faults.map(fault => `    ${fault}`),
    `    runtime    ${runtime}, ${architecture}, ${region}; Node.js ${node}, client ${client}`,
    `    companion  ${companion}, middy-post-invoke ${verdict.version}`,
    ...invocations.map(
      ({ answeredAfter, tasksStarted, tasksEnded, lasted }, index) =>
        `    call ${index + 1}     answer after ${ms(answeredAfter)}; tasks from ${ms(tasksStarted)} to ${ms(tasksEnded)}; invocation ${ms(lasted)}`,
    ),
  ].join('\n')
}

const ms = (milliseconds: number | undefined) => (milliseconds === undefined ? '?' : `${Math.round(milliseconds)} ms`)

const rounded = (_: string, value: unknown) => (typeof value === 'number' ? Number(value.toFixed(3)) : value)
