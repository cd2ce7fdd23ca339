// A folder of examples/ that is a project of its own, as its user has it: installed, built, and read by the tools it is
// written for. A tool that is missing fails the suite.
import { existsSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { type Ended, root, run, succeed } from '../package/packed.ts'

export const projects = readdirSync(join(root, 'examples')).filter(name =>
  existsSync(join(root, 'examples', name, 'package.json')),
)

/** For installing nothing, but building and synthesising. */
export const TOOL_MS = 120_000

export type Project = {
  path(relative: string): string
  /** Runs to the end, with the project's own commands on the PATH. Any exit code is an answer. */
  run(command: string, args: readonly string[], environment?: NodeJS.ProcessEnv): Promise<Ended>
  /** The same, where anything but success is a failure of the test. @returns what was written. */
  succeed(command: string, args: readonly string[], environment?: NodeJS.ProcessEnv, timeout?: number): Promise<string>
  /** Runs a script of package.json. */
  npm(script: string): Promise<string>
}

export const project = (name: string): Project => {
  const folder = join(root, 'examples', name)
  const own = join(folder, 'node_modules', '.bin')
  if (!existsSync(own)) throw missing(`examples/${name} is not installed`)
  const options = (environment: NodeJS.ProcessEnv = {}, timeout = TOOL_MS) => ({
    cwd: folder,
    env: { ...process.env, PATH: `${own}:${dirname(process.execPath)}:${process.env.PATH}`, ...environment },
    timeout,
  })
  return {
    path: relative => join(folder, relative),
    run: (command, args, environment) => run(command, args, options(environment)),
    succeed: (command, args, environment, timeout) => succeed(command, args, options(environment, timeout)),
    npm: script => succeed('npm', ['run', '--silent', script], options()),
  }
}

/** cfn-lint's errors and warnings, but those in `ignored`: nothing if all is well. */
export const lintTemplate = async ({ run }: Project, template: string, ...ignored: string[]): Promise<string> => {
  const ignore = ignored.flatMap(check => ['--ignore-checks', check])
  const { code, stdout, stderr } = await python(run, [
    join(pythonTools(), 'bin', 'cfn-lint'),
    ...ignore,
    ...['--', template],
  ])
  return `${stdout}${stderr}${code === 0 ? '' : `cfn-lint ended with ${code}`}`
}

/** A YAML template as JSON, with CloudFormation's tags (`!Ref`) as the functions they stand for. */
export const readTemplate = async ({ run }: Project, template: string): Promise<Template> => {
  const script = 'import json, sys; from cfnlint.decode import decode; print(json.dumps(decode(sys.argv[1])[0]))'
  const { stdout } = await python(run, ['-c', script, template])
  return JSON.parse(stdout)
}

export type Template = { readonly Resources: Readonly<Record<string, Resource>> }
export type Resource = {
  readonly Type: string
  readonly Properties: Readonly<Record<string, any>>
  readonly Metadata?: Readonly<Record<string, unknown>>
}

/** The one resource of its type. */
export const only = ({ Resources }: Template, type: string): Resource & { readonly id: string } => {
  const found = Object.entries(Resources).filter(([, resource]) => resource.Type === type)
  const [[id, resource] = [], another] = found
  if (!id || !resource || another) throw new Error(`Expected one ${type}, got ${found.length}`)
  return { id, ...resource }
}

export const python = (run: Project['run'], args: readonly string[]) =>
  run('python3', args, { PYTHONPATH: pythonTools() })

export const pythonTools = (): string => {
  const folder = process.env.POST_INVOKE_TEST_PYTHON_TOOLS
  if (folder) return folder
  throw missing('POST_INVOKE_TEST_PYTHON_TOOLS is not set')
}

const missing = (what: string) =>
  new Error(`${what}. Run: bash scripts/install-test-runtimes.sh && source .cache/test-runtimes.env`)
