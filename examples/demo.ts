// npm run demo: shows when the response leaves and when the deferred tasks run. Every time is measured as you watch.
import { styleText } from 'node:util'
import { type CompanionKind, type InvocationTimes, measure, type Run } from './measure.ts'

const LABEL_WIDTH = 22
const TEXT_WIDTH = 28
const WIDTH = Math.min(60, Math.max(20, (process.stdout.columns ?? 100) - LABEL_WIDTH - TEXT_WIDTH))

type Style = Parameters<typeof styleText>[0]

const main = async () => {
  console.log('POST /orders: the handler answers 201 and defers two tasks, last in, first out.')
  const faults: string[] = []
  for (const companion of ['layer', 'embedded'] as const) {
    const run = await measure(companion, 2)
    faults.push(...findFaults(companion, run))
    print(run)
  }
  if (faults.length > 0) {
    for (const fault of faults) console.error(`FAILED: ${fault}`)
    process.exitCode = 1
  } else {
    console.log(
      '\nEach response had left before the first task began, and each hold ended after the last task. The shutdown hook ran each time.',
    )
  }
}

const HEADINGS: Record<string, string> = {
  layer: 'Layer: an extension in a process of its own holds the environment',
  gate: 'Embedded, the gate: the runtime client itself waits for the tasks',
  internal: "Embedded, the internal extension: the function's own process holds the environment",
}

const print = ({ companion, invocations, shutdown }: Run) => {
  const perCell = Math.max(...invocations.map(({ releasedAt }) => releasedAt)) / WIDTH
  console.log(`\n${styleText('bold', HEADINGS[companion] ?? `No companion (${companion})`)}`)
  invocations.forEach((invocation, index) => {
    console.log(`\n  ${`Invocation ${index + 1}`.padEnd(LABEL_WIDTH - 2)}${axis(perCell)}`)
    printInvocation(invocation, perCell)
  })
  printShutdown(shutdown)
}

const printInvocation = ({ answeredAt, tasks, releasedAt, statusCode }: InvocationTimes, perCell: number) => {
  const row = (label: string, drawn: string, style: Style, text: string) =>
    console.log(`    ${label.padEnd(LABEL_WIDTH - 4)}${styleText(style, drawn.padEnd(WIDTH))}  ${text}`)
  const cell = (time: number) => Math.round(time / perCell)
  const bar = (from: number, to: number, character: string) =>
    ' '.repeat(cell(from)) + character.repeat(Math.max(1, cell(to) - cell(from)))

  row('handler', bar(0, answeredAt, '▒'), 'cyan', 'request in at 0 ms')
  row(`response ${statusCode} out`, `${' '.repeat(cell(answeredAt))}◆`, 'yellow', `at ${ms(answeredAt)}`)
  for (const { name, from, to } of tasks) {
    row(`task ${name}`, bar(from, to ?? from, '█'), 'green', `from ${ms(from)} ${to ? `to ${ms(to)}` : '(not ended)'}`)
  }
  row('environment held', bar(0, releasedAt, '░'), 'gray', `released at ${ms(releasedAt)}`)
}

const printShutdown = ({ steps, endedAt }: Run['shutdown']) => {
  console.log('\n  Shutdown')
  for (const { at, text } of steps) console.log(`    ${ms(at).padStart(9)}  ${text}`)
  console.log(`    ${ms(endedAt).padStart(9)}  over`)
}

/** Ticks at round numbers. */
const axis = (perCell: number): string => {
  const least = (perCell * WIDTH) / 6
  const magnitude = 10 ** Math.floor(Math.log10(least))
  const tick = [1, 2, 5, 10].map(step => step * magnitude).find(step => step >= least) ?? least
  let line = ''
  for (let time = 0; time <= perCell * WIDTH; time += tick) line = line.padEnd(Math.round(time / perCell)) + time
  return `${line} ms`
}

const ms = (time: number) => `${time.toFixed(1)} ms`

const findFaults = (companion: CompanionKind, { companion: used, invocations, shutdown }: Run): string[] => {
  const expected = companion === 'layer' ? 'layer' : 'gate'
  const faults = used === expected ? [] : [`expected the companion to be ${expected}, it was ${used}`]
  const hookEnded = shutdown.steps.some(({ text }) => text.startsWith('shutdown hook') && text.endsWith('ended'))
  if (!hookEnded) faults.push(`${used}: expected the shutdown hook to run`)
  invocations.forEach(({ status, statusCode, answeredAt, tasks, releasedAt }, index) => {
    const fault = (text: string) => faults.push(`${used}, invocation ${index + 1}: ${text}`)
    if (status !== 'success' || statusCode !== 201) fault(`expected success and a 201, got ${status}, ${statusCode}`)
    if (tasks.length !== 2) fault(`expected two tasks to run, got ${tasks.length}`)
    for (const { name, from, to } of tasks) {
      if (from < answeredAt) fault(`the task ${name} began at ${ms(from)}, the response left at ${ms(answeredAt)}`)
      if (to === undefined) fault(`the task ${name} did not end`)
      else if (to > releasedAt) fault(`the task ${name} ended at ${ms(to)}, the hold at ${ms(releasedAt)}`)
    }
  })
  return faults
}

await main()
