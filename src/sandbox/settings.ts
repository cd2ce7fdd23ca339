import { accessSync, constants, readdirSync, statSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { SandboxError } from './error.ts'
import { MAX_EXTENSIONS } from './extensions-api.ts'
import type { SandboxOptions } from './types.ts'

/** The options, checked and complete. */
export type Settings = {
  readonly taskRoot: string
  readonly handler: string
  readonly runtimeCommand: readonly [string, ...string[]]
  readonly layers: readonly string[]
  /** Paths of external extensions by name. */
  readonly extensions: ReadonlyMap<string, string>
  readonly timeout: number
  readonly freeze: boolean
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly node: string
  readonly executionEnvironment: string
  readonly initTimeout: number
  readonly patience: number
}

export const readOptions = (options: SandboxOptions): Settings => {
  if (process.platform === 'win32') throw new SandboxError('OPTION_INVALID', 'The sandbox needs POSIX signals')
  const layers = (options.layers ?? []).map((layer, index) => folder(`layers[${index}]`, layer))
  const node = options.node ?? process.execPath
  return {
    taskRoot: folder('taskRoot', options.taskRoot),
    handler: nonEmpty('handler', options.handler),
    runtimeCommand: runtimeCommand(options.runtimeClient ?? 'built-in', node),
    layers,
    extensions: findExtensions(layers),
    timeout: milliseconds('timeout', options.timeout ?? 3_000),
    freeze: options.freeze ?? false,
    environment: options.environment ?? {},
    node,
    executionEnvironment: options.executionEnvironment ?? 'AWS_Lambda_nodejs24.x',
    initTimeout: milliseconds('initTimeout', options.initTimeout ?? 10_000),
    patience: options.patience ? milliseconds('patience', options.patience) : 0,
  }
}

const runtimeCommand = (client: 'built-in' | readonly string[], node: string): Settings['runtimeCommand'] => {
  if (client === 'built-in') {
    // Its neighbour in dist, and in src when Node strips the types itself.
    const file = import.meta.url.endsWith('.ts') ? './runtime-client.ts' : './runtime-client.js'
    return [node, fileURLToPath(new URL(file, import.meta.url))]
  }
  const [command, ...args] = Array.isArray(client) ? client : []
  if (command === undefined) throw wrong('runtimeClient', "'built-in' or a command line as an array", client)
  return [command, ...args]
}

const findExtensions = (layers: readonly string[]) => {
  const found = new Map<string, string>()
  for (const layer of layers) {
    for (const file of list(join(layer, 'extensions'))) {
      if (statSync(file).isDirectory()) continue
      // Lambda starts every file that lies there, and Init fails on one that cannot be started.
      if (!isExecutable(file)) {
        throw new SandboxError(
          'OPTION_INVALID',
          `Everything in extensions/ gets started, but ${file} is not executable`,
        )
      }
      found.set(basename(file), file)
    }
  }
  if (found.size <= MAX_EXTENSIONS) return found
  throw new SandboxError(
    'OPTION_INVALID',
    `At most ${MAX_EXTENSIONS} extensions are allowed, but there are ${found.size}`,
  )
}

const list = (path: string): readonly string[] => {
  try {
    return readdirSync(path)
      .sort()
      .map(name => join(path, name))
  } catch {
    return []
  }
}

const isExecutable = (path: string) => {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

const folder = (option: string, value: unknown): string => {
  const path = resolve(nonEmpty(option, value))
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return path
  throw wrong(option, 'an existing folder', value)
}

const nonEmpty = (option: string, value: unknown): string => {
  if (typeof value === 'string' && value !== '') return value
  throw wrong(option, 'a string that is not empty', value)
}

const milliseconds = (option: string, value: unknown): number => {
  if (typeof value === 'number' && value > 0 && value <= 900_000) return value
  throw wrong(option, 'milliseconds between 0 and 900,000', value)
}

const wrong = (option: string, expected: string, given: unknown) =>
  new SandboxError(
    'OPTION_INVALID',
    `Expected ${option} to be ${expected}, got ${JSON.stringify(given)} (${typeof given})`,
  )
