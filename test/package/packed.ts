// The package as users get it: packed, and installed into an empty project. Needs `npm run build`.
import { execFile } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('../..', import.meta.url))

export type Ended = { code: number; stdout: string; stderr: string }

/** Runs a command to its end, and fails only where it could not be started. */
export const run = (
  command: string,
  args: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv; timeout?: number } = {},
) =>
  new Promise<Ended>((resolve, reject) => {
    execFile(command, args, { maxBuffer: 2 ** 26, ...options }, (error, stdout, stderr) => {
      if (error && typeof error.code !== 'number') reject(error)
      else resolve({ code: Number(error?.code ?? 0), stdout, stderr })
    })
  })

/** The same, where anything but success is a failure of the test. */
export const succeed = async (...args: Parameters<typeof run>): Promise<string> => {
  const { code, stdout, stderr } = await run(...args)
  if (code !== 0) throw new Error(`${args[0]} ${args[1].join(' ')} ended with ${code}:\n${stdout}\n${stderr}`)
  return stdout
}

/** A command of a development dependency. */
export const bin = (name: string) => join(root, 'node_modules', '.bin', name)

export const makeFolder = () => {
  const path = mkdtempSync(join(tmpdir(), 'post-invoke-package-'))
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) }
}

export type PackedFile = { path: string; mode: number }

export type Packed = { tarball: string; files: PackedFile[] }

/** `npm pack`, of this package unless other folders are named. */
export const pack = async (into: string, folders = [root]): Promise<Packed[]> => {
  const stdout = await succeed('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', into, ...folders])
  return JSON.parse(stdout).map((packed: any) => ({ tarball: join(into, packed.filename), files: packed.files }))
}

/**
 * Installs the tarball and what it depends on into a project, all from tarballs of what is installed here: no registry is
 * asked.
 */
export const install = async (project: string): Promise<void> => {
  const tarballs = join(project, 'tarballs')
  mkdirSync(tarballs)
  const dependencies = ['@middy/core', '@middy/util', '@types/aws-lambda'].map(name => join(root, 'node_modules', name))
  const packed = await pack(tarballs, [root, ...dependencies])
  writeFileSync(join(project, 'package.json'), JSON.stringify({ private: true, type: 'module' }))
  await succeed(
    'npm',
    ['install', '--offline', '--no-audit', '--no-fund', '--ignore-scripts', ...packed.map(({ tarball }) => tarball)],
    { cwd: project },
  )
}

/** A folder in which a copy of some of our files compiles and runs as it does here. */
export const copyOf = (folder: string, paths: readonly string[]) => {
  for (const path of paths) cpSync(join(root, path), join(folder, path), { recursive: true })
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'))
}
