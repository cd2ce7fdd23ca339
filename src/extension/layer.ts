// The layer's companion: the process that register.sh becomes. It holds the environment for each invocation in which the
// function's process takes part, which it knows by that process' listening socket.
import net from 'node:net'
import type { Log, LogFields } from '../log.ts'
import { readCommand, readOverflowQueue, readSocketAddress, readSpool } from '../variables.ts'
import { version } from '../version.ts'
import type { Command, CommandSettings } from './command.ts'
import { createExtensionsApi, type Subscription } from './extensions-api.ts'
import { forgetOldest } from './forget-oldest.ts'
import { HandedOff } from './handed-off.ts'
import { Holds, RELEASE_MARGIN_MS, runHoldLoop } from './hold.ts'
import { createLayerLog } from './layer-log.ts'
import { encode, hello, listTasks, type Message, MessageReader, PROTOCOL } from './link.ts'

/** How long a peer may take to accept; and, once one has let a hold run into its cap, to greet us. */
const CONNECT_MS = 1_000

/** Of how many requests the tasks are remembered, and how many unreadable lines are put up with. */
const REMEMBERED = 16
const GARBLED_LINES = 16

/** How long a hold outlives the function's process: so long Lambda has to notice the death and send nothing to it. */
const DEATH_MS = 50

/** How long before the end of the environment we exit. */
const EXIT_MS = 50

const main = async () => {
  const { log, address, spool, overflow, command: settings } = readConfiguration()
  const handedOff = new HandedOff(spool, overflow, log)
  const holds = new Holds()
  const peer = address === undefined ? undefined : new FunctionProcess(address, holds, log)
  const api = createExtensionsApi(process.env.AWS_LAMBDA_RUNTIME_API ?? '', net, { ref: true })
  const identifier =
    process.env.POST_INVOKE_EXTENSION_IDENTIFIER ?? (await api.register('post-invoke', subscriptions()))
  const command = settings && (await loadCommand(settings, identifier, log))

  const shutdown = await runHoldLoop({
    api,
    identifier,
    log,
    ref: true,
    async onInvoke({ requestId, deadline }) {
      if (!peer) return
      const end = deadline - RELEASE_MARGIN_MS
      // Held first: a "settled" can arrive while the connection is being made.
      const released = holds.hold(requestId, deadline)
      peer.connect().then(connected => {
        if (!connected && holds.held === requestId) holds.release('unattended')
      })
      const how = await released
      // Without the function's process Lambda ends the environment, and says so with the next event: it is asked for.
      const running = handedOff.run(end)
      if (how === 'settled') await running
      await command?.after(requestId, end, how === 'settled')
      if (how === 'capped') {
        peer.holdWasCapped()
        log.error(
          `released request ${requestId} before its deadline although it has not settled${peer.lost(requestId)}`,
          undefined,
          peer.fields(requestId),
        )
      }
    },
  })
  peer?.close()
  const end = shutdown.deadline - EXIT_MS
  await Promise.all([handedOff.run(end, true), command?.afterLast(end)])
  process.exit(0)
}

/** A wrong variable fails the function, with a clear error of its own; the companion only goes on without holding. */
const readConfiguration = (): {
  log: Log
  address?: string
  spool?: string
  overflow?: string | undefined
  command?: CommandSettings | undefined
} => {
  try {
    return {
      log: createLayerLog(),
      address: readSocketAddress(),
      spool: readSpool(),
      overflow: readOverflowQueue(),
      command: readCommand(),
    }
  } catch (error) {
    const log = createLayerLog('ERROR')
    log.error('nothing is held', error)
    return { log }
  }
}

/** A file of its own: few functions have a command. */
const loadCommand = async (settings: CommandSettings, identifier: string, log: Log): Promise<Command | undefined> => {
  if (process.env.AWS_LAMBDA_MAX_CONCURRENCY !== undefined) {
    log.error('POST_INVOKE_COMMAND never runs on Managed Instances, where extensions are told of no invocation')
    return undefined
  }
  try {
    const { createCommand } = require('./command.cjs') as typeof import('./command.ts')
    return await createCommand(settings, identifier, process.env.AWS_LAMBDA_RUNTIME_API ?? '', log)
  } catch (error) {
    log.error('POST_INVOKE_COMMAND never runs', error)
    return undefined
  }
}

// Only reached when bash could not register, so it knows the same as register.sh.
const subscriptions = (): Subscription[] => {
  if (/^(embedded|internal|off)$/i.test(process.env.POST_INVOKE_COMPANION ?? '')) return []
  return process.env.AWS_LAMBDA_MAX_CONCURRENCY === undefined ? ['INVOKE', 'SHUTDOWN'] : ['SHUTDOWN']
}

/** The function's process as seen from here: one connection, made at the first INVOKE and kept. */
class FunctionProcess {
  readonly #address: string
  readonly #holds: Holds
  readonly #log: Log
  #connection: net.Socket | undefined
  #connecting: Promise<boolean> | undefined
  /** What has not greeted us yet. */
  #pending: net.Socket | undefined
  /** A peer that accepts may be busy, and greet us when it is not. Unless it never does. */
  #isPatient = true
  /** The tasks each request would lose now, as last told. */
  #tasks = new Map<string, Message & { type: 'tasks' }>()

  constructor(address: string, holds: Holds, log: Log) {
    this.#address = address
    this.#holds = holds
    this.#log = log
  }

  /** @returns whether a function's process that speaks our protocol is there. */
  connect(): Promise<boolean> {
    if (this.#connection) return Promise.resolve(true)
    this.#connecting ??= this.#connect().finally(() => {
      this.#connecting = undefined
    })
    return this.#connecting
  }

  /** A hold has run into its cap: if nobody has greeted us meanwhile, nobody will. */
  holdWasCapped(): void {
    if (this.#connection) return
    this.#isPatient = false
    this.#pending?.destroy()
  }

  /** The environment ends: what is unfinished now will not be finished. */
  close(): void {
    const connection = this.#connection
    if (connection) this.#closed(connection)
    connection?.destroy()
  }

  /** The unfinished tasks of a request, as the end of a sentence. */
  lost(requestId: string): string {
    const tasks = this.#tasks.get(requestId)
    return tasks ? `; unfinished: ${listTasks(tasks)}` : ''
  }

  /** The same, for a line in JSON. */
  fields(requestId: string): LogFields {
    const tasks = this.#tasks.get(requestId)
    return { requestId, ...(tasks && { tasks: tasks.names }) }
  }

  #connect(): Promise<boolean> {
    return new Promise(resolve => {
      const socket = net.connect(this.#address)
      this.#pending = socket
      const reader = new MessageReader()
      const timer = setTimeout(() => socket.destroy(), CONNECT_MS)
      socket.setEncoding('utf8')
      socket.on('connect', () => {
        if (this.#isPatient) clearTimeout(timer)
        socket.write(encode(hello))
      })
      socket.on('data', chunk => {
        const messages = reader.read(String(chunk))
        if (messages === undefined) {
          this.#log.warnOnce('long line', 'a line from the function is too long, dropping the connection')
          socket.destroy()
        }
        for (const message of messages ?? []) {
          if (message.type !== 'hello') {
            if (this.#connection === socket) this.#receive(message)
          } else if (message.protocol === PROTOCOL) {
            clearTimeout(timer)
            this.#connection = socket
            resolve(true)
          } else {
            this.#log.warnOnce(
              'protocol',
              `this layer is version ${version} (protocol ${PROTOCOL}), the package in the function is version ${message.version} (protocol ${message.protocol}): deploy both from one version. Until then nothing is held.`,
            )
            socket.destroy()
            return
          }
        }
        if (reader.garbled > 0) this.#log.warnOnce('garbled', 'a line from the function could not be read')
        if (reader.garbled > GARBLED_LINES) socket.destroy()
      })
      // Why it failed says nothing more: no socket, no hold.
      socket.on('error', () => {})
      socket.on('close', () => {
        clearTimeout(timer)
        this.#closed(socket)
        resolve(false)
      })
    })
  }

  #receive(message: Message) {
    if (message.type === 'tasks') {
      this.#tasks.set(message.requestId, message)
      forgetOldest(this.#tasks, REMEMBERED)
    } else if (message.type === 'settled') {
      this.#tasks.delete(message.requestId)
      this.#holds.settle(message.requestId)
    }
  }

  /** The connection is the proof of life: with it the process is gone, and the tasks that it had. */
  #closed(socket: net.Socket) {
    if (this.#connection !== socket) return
    this.#connection = undefined
    for (const requestId of this.#tasks.keys()) {
      this.#log.error(
        `the function's process ended in the middle of request ${requestId}${this.lost(requestId)}`,
        undefined,
        this.fields(requestId),
      )
    }
    this.#tasks.clear()
    const { held } = this.#holds
    setTimeout(() => {
      if (held !== undefined && this.#holds.held === held) this.#holds.release('unattended')
    }, DEATH_MS)
  }
}

main().catch(error => {
  // Neither bash nor Node could register. Not to exit would hang Init until it times out.
  createLayerLog('ERROR').error('the companion cannot register as an extension', error)
  process.exit(1)
})
