// How fast a companion starts when nothing else does: Lambda starts the function's runtime only once every extension has
// registered, and ends Init once every one has asked for its first event.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { layer } from './functions.ts'
import { digits, type Section, type Target, withUnit } from './page.ts'
import { type Memory, memoryOf } from './processes.ts'
import type { Settings } from './settings.ts'
import { median, ratio, sideBySide } from './statistics.ts'

type Start = { registered: number; ready: number; cpu: number; memory: Memory }

const program = (name: string) => fileURLToPath(new URL(`./programs/${name}`, import.meta.url))

export const measureExtensionStart = async (settings: Settings): Promise<Section> => {
  const node = process.execPath
  const programs: Record<string, readonly string[]> = {
    layer: [join(layer, 'extensions', 'post-invoke')],
    'layer again': [join(layer, 'extensions', 'post-invoke')],
    [BASH]: [program('bare-bash.sh')],
    'bash that registers, then Node.js (version 0.1.0)': [program('register-then-node.sh')],
    'bare Node.js with node:http': [node, program('bare-node.cjs')],
    'Node.js that registers itself': [node, program('node-extension.cjs')],
    ...Object.fromEntries(settings.peerExtensions.map(({ name, path }) => [name, [path]])),
  }
  const names = Object.keys(programs)
  const api = await serveExtensionsApi()
  const samples = await sideBySide(names, settings.times(61, 9), async name => {
    const timed = await start(programs[name] ?? [], api)
    return { ...timed, cpu: await cpuTimeUntilReady(programs[name] ?? [], api) }
  })
  api.close()

  const of = (name: string, what: 'registered' | 'ready' | 'cpu') =>
    (samples.get(name) ?? []).map((one): number => one[what])
  const memory = (name: string, what: keyof Memory) => (samples.get(name) ?? []).map(one => one.memory[what])
  const [peer] = settings.peerExtensions
  const targets: Target[] = []
  for (const what of ['registered', 'ready'] as const) {
    if (!peer) continue
    targets.push({
      figure: `layer: start → ${what}, over ${peer.name}`,
      limit: 1,
      unit: '×',
      measured: ratio(of('layer', what), of(peer.name, what)),
      ifMissed: `the layer took ${digits(median(of('layer', what)))} ms, ${peer.name} ${digits(median(of(peer.name, what)))} ms, ${BASH} ${digits(median(of(BASH, what)))} ms`,
    })
  }
  targets.push({
    figure: 'layer: time on a processor until it is ready',
    limit: 8,
    unit: 'ms',
    measured: median(of('layer', 'cpu')),
    ifMissed: `${BASH} takes ${digits(median(of(BASH, 'cpu')))} ms`,
  })
  return {
    title: "The layer's start",
    text: 'From the start of the process until it has registered, and until it asks for its first event; then what it and all that it has started took of a processor, and its memory. Nothing else starts meanwhile. What is bare only registers and asks for an event, in Node.js not even that: the floor for any companion in that language.',
    tables: [
      {
        columns: [
          'Extension',
          'registered, ms',
          'ready, ms',
          'layer’s ready over it',
          'processor, ms',
          'own, MB',
          'PSS, MB',
          'RSS, MB',
        ],
        rows: names.map(name => [
          name,
          digits(median(of(name, 'registered'))),
          digits(median(of(name, 'ready'))),
          withUnit(ratio(of('layer', 'ready'), of(name, 'ready')), '×'),
          digits(median(of(name, 'cpu'))),
          digits(median(memory(name, 'own'))),
          digits(median(memory(name, 'proportional'))),
          digits(median(memory(name, 'resident'))),
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
    // Not before all of the request is there, as Lambda does: else the next one waits for the network's delayed ACK.
    request.resume().on('end', () => {
      response.writeHead(200, { 'Lambda-Extension-Identifier': 'bench', 'Content-Length': 2 }).end('{}')
    })
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

/** How long it takes, and what it then has in memory. */
const start = async (command: readonly string[], api: ExtensionsApi): Promise<Omit<Start, 'cpu'>> => {
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
  const startedAt = performance.now()
  const child = spawn(file, args, { env: variables(api), stdio: 'ignore' })
  await isReady
  await sleep(SETTLE_MS)
  const memory = memoryOf(child.pid as number)
  const exit = once(child, 'exit')
  child.kill('SIGKILL')
  await exit
  return { registered, ready, memory }
}

/** Of it and all that it has started, which /proc does not tell. */
const cpuTimeUntilReady = async (command: readonly string[], api: ExtensionsApi): Promise<number> => {
  const isReady = new Promise<void>(resolve => {
    api.onCall = path => {
      if (path.endsWith('/event/next')) resolve()
    }
  })
  const wrapper = spawn(program('cpu-time.sh'), command, {
    env: variables(api),
    stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
  })
  let said = ''
  ;(wrapper.stdio[3] as Readable).setEncoding('utf8').on('data', text => {
    said += text
  })
  const closed = once(wrapper, 'close')
  await isReady
  await sleep(SETTLE_MS)
  process.kill(Number(said.split('\n')[0]), 'SIGKILL')
  await closed
  const [, , ofChildren = ''] = said.split('\n')
  return (
    Array.from(
      ofChildren.matchAll(/(\d+)m([\d.]+)s/g),
      ([, minutes, seconds]) => Number(minutes) * 60 + Number(seconds),
    ).reduce((sum, one) => sum + one, 0) * 1_000
  )
}

const variables = ({ address }: ExtensionsApi) => ({
  AWS_LAMBDA_RUNTIME_API: address,
  PATH: `${dirname(process.execPath)}:${process.env.PATH}`,
})

/** For what it still does once it waits. */
const SETTLE_MS = 20

/** The floor for a companion in bash. */
const BASH = 'bare bash'
