// The function's process' end of the line to the layer's companion.
import type { Server, Socket } from 'node:net'
import type { Log } from '../log.ts'
import { readSocketAddress } from '../variables.ts'
import { version } from '../version.ts'
import { type Companion, withoutCompanionApplies } from './companion.ts'
import { forgetOldest } from './forget-oldest.ts'
import { encode, hello, type Message, MessageReader, PROTOCOL } from './link.ts'

/** How long tasks of an environment's first invocation wait for the companion, which connects when that one begins. */
const READY_MS = 250

/** Of how many requests a companion that connects late is told what it has missed. */
const REMEMBERED = 16

/**
 * Listens, synchronously, where the layer's companion will connect. That the socket answers is how the companion knows
 * that this function takes part at all.
 */
export const listenForLayer = (log: Log, variables: Readonly<Record<string, string | undefined>>): Companion => {
  const address = readSocketAddress(variables)
  /** One as a rule; more where the layer is attached more than once, and each of them holds. */
  const connections = new Set<Socket>()
  /** What was told last: a companion that connects after another one has missed it. */
  let last: Message | undefined
  /** By request, the last thing to tell. */
  const untold = new Map<string, Message>()
  let connected = Promise.withResolvers<void>()
  /** An invocation has settled and no companion was there yet: it may still be on its way. */
  let awaited = false
  /** There is no companion: none came during a whole invocation, or we cannot be reached. */
  let missed = false

  const tell = (requestId: string, message: Message) => {
    last = message
    for (const connection of connections) connection.write(encode(message))
    if (connections.size > 0) return
    untold.set(requestId, message)
    forgetOldest(untold, REMEMBERED)
  }

  const accept = (socket: Socket) => {
    const reader = new MessageReader()
    socket.unref()
    socket.setEncoding('utf8')
    socket.write(encode(hello))
    socket.on('error', () => {}) // what follows is 'close'
    socket.on('close', () => {
      if (connections.delete(socket) && connections.size === 0) connected = Promise.withResolvers()
    })
    socket.on('data', chunk => {
      const messages = reader.read(String(chunk))
      if (messages === undefined) socket.destroy()
      for (const message of messages ?? []) {
        if (message.type !== 'hello') continue
        if (message.protocol === PROTOCOL) {
          if (connections.has(socket)) continue
          if (connections.size > 0 && last) socket.write(encode(last))
          connections.add(socket)
          connected.resolve()
          awaited = false
          missed = false
          for (const message of untold.values()) socket.write(encode(message))
          untold.clear()
        } else {
          awaited = false
          missed = connections.size === 0
          log.warnOnce(
            'protocol',
            `this package is version ${version} (protocol ${PROTOCOL}), the layer is version ${message.version} (protocol ${message.protocol}): deploy both from one version. Until then ${withoutCompanionApplies}.`,
          )
        }
      }
    })
  }

  listen(address, accept, error => {
    // Another copy of this package, or the parent of this process, listens already. It is left in place.
    missed = true
    log.warnOnce('listen', `cannot listen for the layer's companion (${error.message}): ${withoutCompanionApplies}`)
  })

  const warnOfAbsence = () =>
    log.warnOnce(
      'missed',
      `the layer's companion made no connection during an invocation: is the layer attached? Until it connects, ${withoutCompanionApplies}.`,
    )

  return {
    kind: 'layer',
    bringsSigterm: true,
    holds() {
      // One that holds connects before it lets go, so by the next invocation it has been here, or is none.
      if (awaited) {
        missed = true
        warnOfAbsence()
      }
      awaited = connections.size === 0 && !missed // now: it may be frozen before it has settled
      return !missed
    },
    ready: () => (connections.size > 0 || missed ? undefined : withinReadyTime(connected.promise, warnOfAbsence)),
    tasks(requestId, { names, more }) {
      tell(requestId, { type: 'tasks', requestId, names, more })
    },
    settle(requestId) {
      tell(requestId, { type: 'settled', requestId })
      awaited = connections.size === 0 && !missed
    },
  }
}

const withinReadyTime = (connected: Promise<void>, onAbsence: () => void) =>
  new Promise<void>(resolve => {
    const timer = setTimeout(() => {
      onAbsence()
      resolve()
    }, READY_MS)
    timer.unref()
    connected.then(() => {
      clearTimeout(timer)
      resolve()
    })
  })

const listen = (address: string, accept: (socket: Socket) => void, failed: (error: Error) => void) => {
  const net = process.getBuiltinModule('node:net')
  const isPath = address.startsWith('/')
  const server: Server = net.createServer(accept)
  server.unref()
  server.once('error', (error: NodeJS.ErrnoException) => {
    if (!isPath || error.code !== 'EADDRINUSE') return failed(error)
    // The file outlives a process that was killed. It is taken away only if nobody answers there.
    const probe = net.connect(address)
    probe.unref()
    probe.on('connect', () => {
      probe.destroy()
      failed(error)
    })
    probe.on('error', () => {
      const { lstatSync, unlinkSync } = process.getBuiltinModule('node:fs')
      try {
        if (!lstatSync(address).isSocket()) return failed(error)
        unlinkSync(address)
      } catch {} // gone meanwhile, or not ours to take: the next bind tells
      server.once('error', failed)
      listenAt(server, address, isPath)
    })
  })
  listenAt(server, address, isPath)
}

/** Only this user may connect to a path: its mode is that of the process' mask at the time of the bind. */
const listenAt = (server: Server, address: string, isPath: boolean) => {
  const mask = isPath ? process.umask(0o177) : undefined
  try {
    server.listen(address)
  } finally {
    if (mask !== undefined) process.umask(mask)
  }
}
