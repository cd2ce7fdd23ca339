// How fast a companion starts when nothing else does: Lambda starts the function's runtime only once every extension has
// registered, and ends Init once every one has asked for its first event.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { layer } from './functions.ts'
import { digits, type Section, type Target, withUnit } from './page.ts'
import { cpuTimeOf, memoryOf } from './processes.ts'
import type { Settings } from './settings.ts'
import { median, ratio, sideBySide } from './statistics.ts'

type Start = { registered: number; ready: number; cpu: number; own: number }

const program = (name: string) => fileURLToPath(new URL(`./programs/${name}`, import.meta.url))

export const measureExtensionStart = async (settings: Settings): Promise<Section> => {
  const node = process.execPath
  const programs: Record<string, readonly string[]> = {
    layer: [join(layer, 'extensions', 'post-invoke')],
    'layer again': [join(layer, 'extensions', 'post-invoke')],
    'bare Node.js with node:http': [node, program('bare-node.cjs')],
    'Node.js that registers itself': [node, program('node-extension.cjs')],
    ...Object.fromEntries(settings.peerExtensions.map(({ name, path }) => [name, [path]])),
  }
  const names = Object.keys(programs)
  const api = await serveExtensionsApi()
  const samples = await sideBySide(names, settings.times(61, 9), name => start(programs[name] ?? [], api))
  api.close()

  const of = (name: string, what: keyof Start) => (samples.get(name) ?? []).map(one => one[what])
  const bare = 'bare Node.js with node:http'
  const [peer] = settings.peerExtensions
  const targets: Target[] = [
    {
      figure: 'layer: ready time over a bare Node.js process',
      limit: 1.05,
      unit: '×',
      measured: ratio(of('layer', 'ready'), of(bare, 'ready')),
      ifMissed: `bash takes ${digits(median(of('layer', 'registered')))} ms before Node.js begins`,
    },
    {
      figure: '… its memory',
      limit: 1.1,
      unit: '×',
      measured: ratio(of('layer', 'own'), of(bare, 'own')),
      ifMissed: `a bare one has ${digits(median(of(bare, 'own')))} MB`,
    },
  ]
  if (peer) {
    targets.unshift({
      figure: `layer: start → registered, over ${peer.name}`,
      limit: 1,
      unit: '×',
      measured: ratio(of('layer', 'registered'), of(peer.name, 'registered')),
      ifMissed: `the layer took ${digits(median(of('layer', 'registered')))} ms, ${peer.name} ${digits(median(of(peer.name, 'registered')))} ms`,
    })
  }
  return {
    title: "The layer's start",
    text: 'From the start of the process until it has registered, and until it asks for its first event; its time on a processor and its own memory then. Nothing else starts meanwhile. "Bare Node.js" only asks for an event: the floor for any companion in Node.js.',
    tables: [
      {
        columns: ['Extension', 'registered, ms', 'ready, ms', 'ready over bare', 'processor, ms', 'own memory, MB'],
        rows: names.map(name => [
          name,
          digits(median(of(name, 'registered'))),
          digits(median(of(name, 'ready'))),
          withUnit(ratio(of(name, 'ready'), of(bare, 'ready')), '×'),
          digits(median(of(name, 'cpu'))),
          digits(median(of(name, 'own'))),
        ]),
      },
    ],
    targets,
    controls: [
      {
        figure: "the layer's ready time",
        unit: '×',
        measured: ratio(of('layer again', 'ready'), of('layer', 'ready')),
      },
    ],
  }
}

type ExtensionsApi = { address: string; onCall: (path: string) => void; close(): void }

/** Registers everybody, and has no event for anybody. */
const serveExtensionsApi = async (): Promise<ExtensionsApi> => {
  const server = createServer((request, response) => {
    api.onCall(request.url ?? '')
    if (!request.url?.endsWith('/register')) return
    response.writeHead(200, { 'Lambda-Extension-Identifier': 'bench', 'Content-Length': 2 }).end('{}')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const api: ExtensionsApi = {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    onCall: () => {},
    close: () => (server.closeAllConnections() as undefined) ?? server.close(),
  }
  return api
}

const start = async (command: readonly string[], api: ExtensionsApi): Promise<Start> => {
  const [file = '', ...args] = command
  let registered = Number.NaN
  let ready = Number.NaN
  const isReady = new Promise<void>(resolve => {
    api.onCall = path => {
      if (path.endsWith('/register')) registered = performance.now() - startedAt
      if (!path.endsWith('/event/next')) return
      ready = performance.now() - startedAt
      resolve()
    }
  })
  const env = { AWS_LAMBDA_RUNTIME_API: api.address, PATH: `${dirname(process.execPath)}:${process.env.PATH}` }
  const startedAt = performance.now()
  const child = spawn(file, args, { env, stdio: 'ignore' })
  await isReady
  await sleep(20) // what it still does once it waits
  const { own } = memoryOf(child.pid as number)
  const cpu = cpuTimeOf(child.pid as number)
  await end(child)
  return { registered, ready, cpu, own }
}

const end = async (child: ChildProcess) => {
  const exit = once(child, 'exit')
  child.kill('SIGKILL')
  await exit
}
