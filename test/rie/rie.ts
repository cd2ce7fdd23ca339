// Drives AWS's runtime interface emulator, a fork of Lambda's own supervisor, with a real runtime client in it. Against
// Lambda it answers only at the end of an invocation, never freezes the environment and streams nothing. It does tell
// in its log, request by request, what Lambda's APIs were asked and when.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { request } from 'undici'
import { freePort } from '../support/free-port.ts'
import { descendantsOf, programOf } from '../support/processes.ts'

/** With the versions of Lambda's runtimes; RIC 4 runs on the Node.js of the tests themselves. */
const runtimeClients = {
  'RIC 3': {
    folder: 'POST_INVOKE_TEST_RIC3',
    main: 'bin/index.mjs',
    node: 'POST_INVOKE_TEST_NODE22',
    runtime: 'nodejs22.x',
  },
  'RIC 4': { folder: 'POST_INVOKE_TEST_RIC4', main: 'index.mjs', node: undefined, runtime: 'nodejs24.x' },
} as const

export type RuntimeClient = keyof typeof runtimeClients

export type EmulatorOptions = {
  /** One of Lambda's, or the file of another. */
  runtimeClient: RuntimeClient | { file: string }
  /** Default `index.handler`. */
  handler?: string
  /** Whether dist/layer is attached, as Lambda unpacks it: into /opt. */
  layer?: boolean
  /** The folder that is /opt instead. */
  opt?: string
  /** Default: that of the emulator's own tests. */
  taskRoot?: string
  environment?: Record<string, string>
  /** Managed Instances, with so many worker threads: the emulator has a supervisor of its own for them. */
  workers?: number
}

export type Answer = { statusCode: number; body: any }

const START_MS = 10_000
const INVOCATION_MS = 60_000
/** The emulator gives runtime and extensions 2 s, and waits 2 s more for processes to be gone. */
const STOP_MS = 10_000

const root = fileURLToPath(new URL('../../', import.meta.url))

/** Starts the emulator. The environment in it is initialised by the first invocation. */
export const startEmulator = async (options: EmulatorOptions): Promise<Emulator> => {
  const port = await freePort()
  const runtimeApiPort = await freePort(port)
  const emulator = new Emulator(start(options, port, runtimeApiPort), port)
  await emulator.listening()
  // An instance is initialised before it is invoked. Each worker has loaded the function when it asks for an invocation.
  if (options.workers) await emulator.asked(options.workers)
  return emulator
}

export class Emulator {
  /** What the emulator, the function and the companion have written, in one order. */
  log = ''
  readonly #process: ChildProcess
  readonly #port: number
  readonly #ended: Promise<unknown>

  constructor(child: ChildProcess, port: number) {
    this.#process = child
    this.#port = port
    this.#ended = once(child, 'close').catch(error => {
      this.log += error.message // there is no unshare
    })
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', text => {
        this.log += text
      })
    }
  }

  async listening(): Promise<void> {
    const deadline = Date.now() + START_MS
    // Its HTTP server opens last, without a word in the log.
    while (!/Runtime API Server listening|RIE server started/.test(this.log) || !(await isListening(this.#port))) {
      if (this.#hasEnded || Date.now() > deadline) {
        this.kill()
        await this.#ended
        throw this.#error('does not listen')
      }
      await sleep(20)
    }
  }

  /** Until the runtime has asked for an invocation so often. */
  asked(times: number): Promise<void> {
    return this.#logged('url=/2018-06-01/runtime/invocation/next', times, START_MS, 'has no runtime')
  }

  /** Until so many invocations have ended. The reset after one that failed may follow. */
  ended(times: number): Promise<void> {
    return this.#logged('execute finished', times, INVOCATION_MS, 'has not ended an invocation')
  }

  async #logged(text: string, times: number, limit: number, otherwise: string): Promise<void> {
    const deadline = Date.now() + limit
    while (this.log.split(text).length <= times) {
      if (this.#hasEnded || Date.now() > deadline) throw this.#error(otherwise)
      await sleep(20)
    }
  }

  /** The emulator answers when the invocation is over: when runtime and extensions have asked for the next one. */
  async invoke(event: object = {}): Promise<Answer> {
    const { statusCode, body } = await request(
      `http://127.0.0.1:${this.#port}/2015-03-31/functions/function/invocations`,
      { method: 'POST', body: JSON.stringify(event), headersTimeout: INVOCATION_MS, bodyTimeout: INVOCATION_MS },
    )
    const text = await body.text()
    // The emulator's own words, about a timeout for instance, are not JSON.
    return { statusCode, body: text.startsWith('{') ? JSON.parse(text) : text }
  }

  /** Ends the environment as Lambda does: SIGTERM, SHUTDOWN, SIGKILL, each to whom it is due. */
  async stop(): Promise<void> {
    process.kill(this.#emulatorPid, 'SIGTERM')
    const timer = setTimeout(() => this.kill(), STOP_MS)
    await this.#ended
    clearTimeout(timer)
    if (this.#process.signalCode) throw this.#error(`did not end within ${STOP_MS} ms`)
  }

  /** Ends everything in it at once. Does nothing after stop(). */
  kill(): void {
    if (!this.#hasEnded) this.#process.kill('SIGKILL') // and unshare's --kill-child takes the namespace with it
  }

  /** The programs that run in it, the emulator's own apart. */
  get programs(): string[] {
    return this.pids.map(programOf).sort()
  }

  /** The processes in it. */
  get pids(): number[] {
    return descendantsOf(this.#emulatorPid)
  }

  /** Who registered as an extension, and for which events. */
  get registrations(): string[] {
    const lines = this.log.matchAll(/ (External|Internal) agent (\S+) \S+ registered, subscribed to \[(.*)\]/g)
    return Array.from(lines, ([, kind, name, events]) => `${kind!.toLowerCase()} ${name}: ${events || 'no events'}`)
  }

  /** How often the function was loaded: once, unless a crash or a timeout made Lambda start over. */
  get inits(): number {
    return this.log.match(/MARK init/g)?.length ?? 0
  }

  /** What happened from each invocation's start to its end, in order. */
  get invocations(): string[][] {
    return Array.from(
      this.log.matchAll(/INVOKE START\(requestId: (\S+)\)(.*?)END RequestId: \1/gs),
      ([text, requestId]) =>
        story(text, [
          [new RegExp(`MARK (.*) ${requestId}`), '$1'],
          [
            new RegExp(`API request - POST /2018-06-01/runtime/invocation/${requestId}/(response|error)`),
            'runtime: $1',
          ],
          [/API request - GET \/2018-06-01\/runtime\/invocation\/next/, 'runtime: next'],
          [/API request - GET \/2020-01-01\/extension\/event\/next/, 'extension: next'],
        ]),
    )
  }

  /** What happened from the signal that ends the environment on, in order. */
  get shutdown(): string[] {
    return story(this.log.slice(this.log.indexOf('Received signal')), [
      [/MARK SIGTERM/, 'runtime: SIGTERM'],
      [/MARK (hook .*)/, '$1'],
      [/Sending SIGKILL to runtime-/, 'runtime: SIGKILL'],
      [/Agent \S+ \S+ is registered for the shutdown event/, 'extension: SHUTDOWN'],
      [/Sending SIGKILL to extension-/, 'extension: SIGKILL'],
      [/Handling termination for extension-/, 'extension: ended'],
    ])
  }

  /** From what the last shutdown hook logged to the end of the function's process, as the emulator notices it. */
  get millisecondsFromLastHookToEnd(): number {
    const [, hook = '', end] =
      /.*^(\S+Z)\s.*MARK hook .*?The events handler received the event \{Time:(\d+)/ms.exec(this.log) ?? []
    return Number(end) - Date.parse(hook)
  }

  get #hasEnded(): boolean {
    return this.#process.exitCode !== null || this.#process.signalCode !== null
  }

  /** Our own child is unshare, which passes no signal on; its only child is the emulator. */
  get #emulatorPid(): number {
    const { pid } = this.#process
    const child = Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8'))
    if (child > 0) return child // 0 would be this very process' group
    throw this.#error('has ended by itself')
  }

  #error(problem: string): Error {
    return new Error(`The emulator ${problem}. Its log:\n${this.log}`)
  }
}

const story = (text: string, facts: [RegExp, string][]): string[] =>
  text.split('\n').flatMap(line => {
    for (const [pattern, words] of facts) {
      const match = pattern.exec(line)
      if (match) return words.replace('$1', match[1] ?? '')
    }
    return []
  })

const start = (
  { runtimeClient, handler = 'index.handler', layer = false, environment, ...options }: EmulatorOptions,
  port: number,
  runtimeApiPort: number,
) => {
  const client =
    typeof runtimeClient === 'string'
      ? runtimeClients[runtimeClient]
      : { ...runtimeClients['RIC 4'], main: runtimeClient.file }
  const node = client.node ? installed(client.node) : process.execPath
  const { workers } = options
  const { opt = layer ? join(root, 'dist', 'layer') : '', taskRoot = join(root, 'test', 'fixtures', 'rie') } = options
  return spawn(
    'unshare',
    [
      // The emulator looks for extensions in /opt/extensions, nowhere else: it gets an /opt of its own. In a namespace
      // for processes too, nothing in it outlives a test.
      ...(process.getuid?.() === 0 ? [] : ['--map-root-user']),
      ...['--mount', '--pid', '--kill-child', 'sh', '-c'],
      // One pipe for its log (standard error) and the standard output of all: in the order in which they wrote.
      [
        'if [ "$1" ]; then mount --bind "$1" /opt; else mount -t tmpfs none /opt; fi',
        'if [ "$2" ]; then mount -t tmpfs none /var && mkdir /var/task; fi', // where it starts the runtime of an instance
        'shift 2',
        'exec "$@" 2>&1',
      ].join(' && '),
      'sh',
      workers ? withBootstrap(opt, [node, resolve(installed(client.folder), client.main), handler], taskRoot) : opt,
      workers ? 'managed' : '',
      installed('POST_INVOKE_TEST_RIE'),
      ...['--log-level', 'debug'],
      ...['--runtime-interface-emulator-address', `127.0.0.1:${port}`],
      ...['--runtime-api-address', `127.0.0.1:${runtimeApiPort}`],
      ...(workers ? [] : [node, resolve(installed(client.folder), client.main), handler]),
    ],
    {
      cwd: taskRoot,
      env: {
        // Lambda's own: the folder of the runtime's Node.js is on the PATH.
        PATH: `${dirname(node)}:/usr/local/bin:/usr/bin:/bin`,
        LAMBDA_TASK_ROOT: taskRoot,
        AWS_EXECUTION_ENV: `AWS_Lambda_${client.runtime}`,
        AWS_LAMBDA_FUNCTION_TIMEOUT: '10',
        ...(workers && {
          AWS_LAMBDA_MAX_CONCURRENCY: String(4 * workers),
          AWS_LAMBDA_NODEJS_WORKER_COUNT: String(workers),
          AWS_LAMBDA_LOG_FORMAT: 'Text',
          _HANDLER: handler,
        }),
        ...environment,
      },
      stdio: ['ignore', 'pipe', 'pipe'], // what still comes on the second are errors of unshare and mount
    },
  )
}

/**
 * For Managed Instances it starts /opt/bootstrap, with LAMBDA_TASK_ROOT=/var/task and without AWS_EXECUTION_ENV.
 *
 * @returns a copy of the folder that has one.
 */
const withBootstrap = (opt: string, command: string[], taskRoot: string): string => {
  const folder = mkdtempSync(join(tmpdir(), 'post-invoke-opt-'))
  chmodSync(folder, 0o755) // it runs them as another user
  if (opt) execFileSync('cp', ['-a', `${opt}/.`, folder])
  const lines = [
    '#!/bin/sh',
    `cd '${taskRoot}'`,
    `export LAMBDA_TASK_ROOT='${taskRoot}' AWS_EXECUTION_ENV=AWS_Lambda_nodejs24.x`,
    `exec ${command.map(word => `'${word}'`).join(' ')}`,
  ]
  writeFileSync(join(folder, 'bootstrap'), `${lines.join('\n')}\n`, { mode: 0o755 })
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  return folder
}

const installed = (variable: string): string => {
  const path = process.env[variable]
  if (path) return path
  throw new Error(
    `Expected ${variable} to be set. Run: bash scripts/install-test-runtimes.sh && source .cache/test-runtimes.env`,
  )
}

const isListening = (port: number): Promise<boolean> =>
  new Promise(resolve => {
    const socket = net.connect(port, '127.0.0.1')
    socket.on('error', () => resolve(false))
    socket.on('connect', () => {
      socket.destroy()
      resolve(true)
    })
  })
