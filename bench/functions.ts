// The functions that are measured, bundled as they would be deployed, and sandboxes with them.
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { createSandbox, type Sandbox, type SandboxEvent } from 'middy-post-invoke/sandbox'
import { type RuntimeClient, runtimeClients } from '../test/support/runtime-clients.ts'
import type { Peer } from './settings.ts'

const FUNCTIONS = ['plain', 'hooks', 'least', 'least-gate', 'imported', 'deferred', 'awaited', 'streamed'] as const
export type FunctionName = (typeof FUNCTIONS)[number]
export type CompanionName = 'gate' | 'internal' | 'layer'

const source = (name: FunctionName) => fileURLToPath(new URL(`./functions/${name}.mjs`, import.meta.url))

export const layer = fileURLToPath(new URL('../dist/layer', import.meta.url))

/** @returns a folder with one minified file for each function. It is gone when the process ends. */
export const bundleFunctions = async (): Promise<string> => {
  const folder = mkdtempSync(join(tmpdir(), 'bench-'))
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  await build({
    entryPoints: FUNCTIONS.map(source),
    outdir: folder,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    minify: true,
    format: 'esm',
    platform: 'node',
    target: 'node22',
    logLevel: 'warning',
  })
  return folder
}

/** The least that any extension in Node.js costs: it registers, asks for events and does nothing with them. */
export const nodeExtension: Peer = {
  name: 'node-extension',
  path: fileURLToPath(new URL('./programs/node-extension.cjs', import.meta.url)),
}

/** The same in bash: the least that an extension takes of a processor. */
export const bashExtension: Peer = {
  name: 'bare-bash',
  path: fileURLToPath(new URL('./programs/bare-bash.sh', import.meta.url)),
}

/** It releases when our lines tell it to, and looks at nothing: the least that a companion in bash costs. */
export const bareCompanion: Peer = {
  name: 'post-invoke',
  path: fileURLToPath(new URL('./programs/bare-companion.sh', import.meta.url)),
}

/** A folder laid out like /opt with one extension in it. */
export const layerOf = (folder: string, { name, path }: Peer): string => {
  const layer = join(folder, `layer-${name}`)
  const file = join(layer, 'extensions', name)
  mkdirSync(join(layer, 'extensions'), { recursive: true })
  copyFileSync(path, file)
  chmodSync(file, 0o755)
  return layer
}

/** AWS's own clients. What is measured on another one says nothing. */
export const realClient = (kind: 'ric3' | 'ric4'): RuntimeClient => {
  const client = runtimeClients.find(candidate => candidate.kind === kind)
  if (client) return client
  throw new Error(
    'Expected the real runtime clients to be installed. Run `bash scripts/install-test-runtimes.sh`, then `source .cache/test-runtimes.env`.',
  )
}

export type FunctionSetup = {
  readonly client: 'ric3' | 'ric4'
  readonly function: FunctionName
  readonly companion?: CompanionName
  /** Folders with extensions, where they are not the companion's own. */
  readonly layers?: readonly string[]
  /** Whose extension is in these. */
  readonly beside?: Peer
  readonly wrapper?: Peer
  /** For its Node.js, as NODE_OPTIONS has them. */
  readonly nodeOptions?: string
}

export const startFunction = async (
  folder: string,
  setup: FunctionSetup,
  onEvent?: (event: SandboxEvent) => void,
): Promise<Sandbox> => {
  const { companion, wrapper, nodeOptions } = setup
  const { runtimeClient, ...client } = realClient(setup.client).options(`${setup.function}.handler`)
  const command = runtimeClient as readonly string[]
  return createSandbox({
    taskRoot: folder,
    ...client,
    runtimeClient: wrapper ? [wrapper.path, ...command] : command,
    layers: setup.layers ?? (companion === 'layer' ? [layer] : []),
    timeout: 120_000,
    environment: {
      ...(companion && { POST_INVOKE_COMPANION: companion === 'gate' ? 'embedded' : companion }),
      ...(wrapper && { AWS_LAMBDA_POST_RUNNER_COMMAND: 'true' }),
      ...(nodeOptions && { NODE_OPTIONS: nodeOptions }),
    },
    ...(onEvent && { onEvent }),
  })
}
