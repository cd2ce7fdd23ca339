// Everything that the socket between the function's process and the layer's companion can meet.
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, renameSync, unlinkSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { makeFolder } from '../support/fault-layers.ts'
import { type Fault, type Given, type Start, untilLogged } from '../support/fault-observe.ts'
import { describeFaults, on } from '../support/fault-suite.ts'
import { layer } from '../support/run.ts'

/** For holds that end at their cap. */
const SHORT_MS = 2_500

const squatter = fileURLToPath(new URL('../fixtures/faults/layers/squatter', import.meta.url))

/** What somebody else does who listens at the path, with each connection. */
type Manners = (socket: net.Socket) => void

const listen = async ({ cleanUp }: Given, path: string, manners: Manners = () => {}) => {
  const sockets = new Set<net.Socket>()
  const server = net.createServer(socket => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
    socket.resume()
    manners(socket)
  })
  await once(server.listen(path), 'listening')
  cleanUp.defer(async () => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
}

const leaveStale = (path: string) => {
  const listenAndDie = `require('net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`
  spawnSync(process.execPath, ['-e', listenAndDie, path])
}

const atPath = (path: string): Start => ({ environment: { POST_INVOKE_SOCKET: path } })

/** With something at the path before the environment starts. */
const taken =
  (take: (path: string, given: Given) => unknown) =>
  async (given: Given): Promise<Start> => {
    const path = join(makeFolder(given.cleanUp), 's')
    await take(path, given)
    return { ...atPath(path), freeze: false, timeout: SHORT_MS }
  }

/** With a path to which something is done once the function's process listens there. */
const changed = (change: (path: string, given: Given) => unknown): Pick<Fault, 'start' | 'before'> => {
  const paths = new WeakMap<Given, string>()
  return {
    start: given => {
      const path = join(makeFolder(given.cleanUp), 's')
      paths.set(given, path)
      return { ...atPath(path), timeout: SHORT_MS }
    },
    before: (_, given) => change(paths.get(given) as string, given),
  }
}

const replace = async (path: string, given: Given) => {
  renameSync(path, `${path}-before`)
  await listen(given, path)
}

/** Somebody else connects to the function's process and says something, as often as asked for. */
const stranger =
  (text: string, connections = 1): NonNullable<Fault['before']> =>
  async (run, { cleanUp }) => {
    for (let count = 0; count < connections; count++) {
      const socket = net.connect(`\0middy-post-invoke/${run.sandbox.runtimeApi}`)
      socket.on('error', () => {}) // it may be hung up on
      cleanUp.defer(async () => void socket.destroy())
      await once(socket, 'connect')
      socket.write(text)
      socket.resume()
    }
  }

const hello = (protocol: number) => `{"type":"hello","protocol":${protocol},"version":"1.2.3"}\n`

const names: Fault[] = [
  {
    injected: 'The abstract name is taken by a process that says nothing',
    on: on.layer,
    start: () => ({ layers: [layer, squatter], freeze: false, timeout: SHORT_MS }),
    isHeldOnce: true,
  },
  {
    injected: 'The path is taken by a process that says nothing',
    on: on.layer,
    start: taken((path, given) => listen(given, path)),
    isHeldOnce: true,
  },
  {
    injected: 'The path is taken by a process that hangs up',
    on: on.layer,
    start: taken((path, given) => listen(given, path, socket => void socket.destroy())),
  },
  {
    injected: 'The path is taken by a process that speaks HTTP',
    on: on.layer,
    start: taken((path, given) => listen(given, path, socket => void socket.write('HTTP/1.1 400 Bad Request\r\n\r\n'))),
    isHeldOnce: true,
  },
  {
    injected: 'A file is at the path',
    on: on.layer,
    start: taken(path => writeFileSync(path, 'not a socket')),
  },
  { injected: 'A folder is at the path', on: on.layer, start: taken(path => mkdirSync(path)) },
  {
    injected: 'The folder of the path is missing',
    on: on.layer,
    start: ({ cleanUp }) => ({ ...atPath(join(makeFolder(cleanUp), 'missing', 's')), freeze: false }),
  },
]

const changes: Fault[] = [
  { injected: 'The path is removed before the first invocation', ...changed(unlinkSync) },
  { injected: 'The path is removed once the companion has connected', isWarm: true, ...changed(unlinkSync) },
  {
    injected: "The path is replaced by another process' before the first invocation",
    isHeldOnce: true,
    ...changed(replace),
  },
  {
    injected: "The path is replaced by another process' once the companion has connected",
    isWarm: true,
    ...changed(replace),
  },
].map(fault => ({ ...fault, on: on.layer }))

const toTheCompanion: Fault[] = [
  { injected: 'The companion is sent what is no line of ours', kind: 'writes-garbage' },
  { injected: 'The companion is sent a line that is too long', kind: 'writes-a-long-line' },
  { injected: 'The companion is flooded with lines', kind: 'floods' },
  { injected: 'The connection is cut while a task runs', kind: 'cuts' },
].map(({ injected, kind }) => ({
  injected,
  on: on.layer,
  event: {
    tasks: [
      { kind: 'quick', name: 'after' },
      { kind, name: 'faulty' },
      { kind: 'quick', name: 'before' },
    ],
  },
}))

const toTheFunction: Fault[] = [
  { injected: "The function's process is sent what is no line of ours", before: stranger('no JSON\n{}\nnull\n[]\n') },
  { injected: "The function's process is sent a line that is too long", before: stranger('x'.repeat(200_000)) },
  {
    injected: "The function's process is flooded with lines",
    isWarm: true,
    before: stranger(hello(99).repeat(10_000)),
  },
  { injected: "The function's process gets 300 connections", before: stranger('', 300) },
  { injected: "Somebody else says hello to the function's process", before: stranger(hello(1)) },
  { injected: 'Somebody else says hello, once the companion has', isWarm: true, before: stranger(hello(1)) },
].map(fault => ({ ...fault, on: on.layer }))

/** Who listens at a path that is taken is asked first, and that is told only once init has ended. */
const untilRefused: Fault['before'] = run => untilLogged(run, "cannot listen for the layer's companion")

describeFaults('socket', [
  ...names.map(fault => ({ ...fault, before: untilRefused })),
  { injected: 'The stale socket of a killed process is at the path', on: on.layer, start: taken(leaveStale) },
  ...changes,
  ...toTheCompanion,
  ...toTheFunction,
])
