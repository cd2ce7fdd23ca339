// Runs the command line as it is built, and makes folders for it to work in.
import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach } from '@jest/globals'

export const root = fileURLToPath(new URL('../..', import.meta.url))
const cli = join(root, 'dist', 'cli.js')

export type Ended = { readonly code: number | null; readonly stdout: string; readonly stderr: string }

export type RunOptions = {
  readonly env?: NodeJS.ProcessEnv
  readonly stdin?: string
  readonly node?: string
  /** Called with all of the output so far, whenever there is more. */
  readonly onOutput?: (output: string, kill: (signal: NodeJS.Signals) => void) => void
}

/** Runs `post-invoke` in a folder to its end. It is ended by force after a minute. */
export const postInvoke = (cwd: string, args: readonly string[], options: RunOptions = {}): Promise<Ended> =>
  new Promise((resolve, reject) => {
    const { NO_COLOR: _, FORCE_COLOR: __, NODE_OPTIONS: ___, ...inherited } = process.env
    const child = spawn(options.node ?? process.execPath, [cli, ...args], {
      cwd,
      env: { ...inherited, ...options.env },
      timeout: 200_000,
      killSignal: 'SIGKILL',
    })
    let stdout = ''
    let stderr = ''
    const told = () => options.onOutput?.(stdout + stderr, signal => child.kill(signal))
    child.stdout.setEncoding('utf8').on('data', chunk => {
      stdout += chunk
      told()
    })
    child.stderr.setEncoding('utf8').on('data', chunk => {
      stderr += chunk
      told()
    })
    child.once('error', reject)
    child.once('close', code => resolve({ code, stdout, stderr }))
    child.stdin.end(options.stdin ?? '')
  })

/** Gives a `make` whose folders are removed after each test. */
export const useFolders = () => {
  const folders: string[] = []
  afterEach(() => {
    for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
  })
  return (files: Readonly<Record<string, string>> = {}): string => {
    const folder = realpathSync(mkdtempSync(join(tmpdir(), 'post-invoke-cli-')))
    folders.push(folder)
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, path)), { recursive: true })
      writeFileSync(join(folder, path), text)
    }
    return folder
  }
}

/** Gives a `make` of projects that have packages of ours as their own. They are removed after each test. */
export const useProjects = () => {
  const makeFolder = useFolders()
  return (files: Readonly<Record<string, string>>, packages: readonly string[] = []): string => {
    const folder = makeFolder({ 'package.json': '{"type":"module"}', ...files })
    for (const name of ['@middy/core', '@middy/util', ...packages]) link(join(root, 'node_modules', name), folder, name)
    link(root, folder, 'middy-post-invoke')
    return folder
  }
}

const link = (target: string, folder: string, name: string) => {
  const path = join(folder, 'node_modules', name)
  mkdirSync(dirname(path), { recursive: true })
  symlinkSync(target, path)
}

/** What holds without the layer, with the runtime of Lambda that has the Node.js which runs here. */
export const embeddedCompanion = Number.parseInt(process.versions.node, 10) < 24 ? 'internal' : 'gate'
