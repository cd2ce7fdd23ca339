// Node.js in the layer, started by post-invoke.sh when there is handed-off work for the first time, or at Init where
// POST_INVOKE_COMMAND is set. Its lines come on standard input and are described there; each is answered with its number on
// file descriptor 3, so that whatever a job prints goes to the log and is never taken for an answer.
import { writeSync } from 'node:fs'
import { createInterface } from 'node:readline'
import type { Runner } from '../hand-off/runner.ts'
import { readOverflowQueue, readSpool } from '../hand-off/settings.ts'
import type { Log } from '../log.ts'
import { readCommand } from '../variables.ts'
import type { Command } from './command.ts'
import { createLayerLog } from './layer-log.ts'

const ANSWERS = 3

/** How long before the end the runner stops: what runs is aborted, and has a moment to end. */
const STOP_MS = 150

const main = () => {
  const log = createOwnLog()
  let runner: Runner | undefined
  let command: Command | undefined

  const runWaiting = async (end: number, isLast = false) => {
    runner ??= loadRunner(log)
    await until(end, runner.run(end - STOP_MS, isLast))
  }

  const obey = async (kind: string | undefined, words: string[]): Promise<void> => {
    const end = Number(words[0])
    switch (kind) {
      case 'start':
        command = await loadCommand(log)
        return
      case 'run':
        return runWaiting(end)
      case 'after': {
        command ??= await loadCommand(log) // the worker that loaded it at Init may have been replaced
        const { requestId } = JSON.parse(words.slice(2).join(' '))
        return command?.after(String(requestId), end, words[1] === '1')
      }
      case 'last':
        await Promise.all([runWaiting(end, true), command?.afterLast(end)])
    }
  }

  const answer = async (line: string) => {
    const [number, kind, ...words] = line.split(' ')
    await obey(kind, words).catch(error =>
      log.error('the worker has failed; handed-off work waits in the spool', error),
    )
    writeSync(ANSWERS, `${number}\n`)
  }

  // An emulator sends it to all processes, and there may be work to be done after it.
  process.on('SIGTERM', () => {})
  const input = createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY })
  input.on('line', line => void answer(line))
  input.on('close', () => process.exit(0)) // with the script
}

/** A wrong variable fails the function, with a clear error of its own. */
const createOwnLog = (): Log => {
  try {
    return createLayerLog()
  } catch {
    return createLayerLog('ERROR')
  }
}

/** A file of its own, with an HTTP client in it: a function that has only a command needs none of it. */
const loadRunner = (log: Log): Runner => {
  const { createRunner } = require('./runner.cjs') as typeof import('../hand-off/runner.ts')
  return createRunner({ spool: readSpool(), log, isolatesJobs: true, overflowQueueUrl: readOverflowQueue() })
}

/** A file of its own: few functions have a command. */
const loadCommand = async (log: Log): Promise<Command | undefined> => {
  try {
    const settings = readCommand()
    if (!settings) return undefined
    const { createCommand } = require('./command.cjs') as typeof import('./command.ts')
    const { POST_INVOKE_EXTENSION_IDENTIFIER: identifier = '', AWS_LAMBDA_RUNTIME_API: api = '' } = process.env
    return await createCommand(settings, identifier, api, log)
  } catch (error) {
    log.error('POST_INVOKE_COMMAND never runs', error)
    return undefined
  }
}

const until = async (end: number, running: Promise<void>): Promise<void> => {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<void>(resolve => {
    timer = setTimeout(resolve, Math.max(0, end - Date.now()))
  })
  await Promise.race([running, late])
  clearTimeout(timer)
}

main()
