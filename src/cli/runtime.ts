// What `--runtime` names: a runtime of Lambda, as which the sandbox's own client behaves, or one of AWS's own runtime
// clients, installed by the user, in place of it.
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'
import { UsageError } from './errors.ts'
import { inDist } from './package-files.ts'

export const RUNTIME_OPTION =
  "nodejs22.x, nodejs24.x or nodejs26.x, or AWS's own client, installed: its name (aws-lambda-ric) or folder (default: by this Node.js)"

export type Runtime = {
  /** For people. */
  readonly name: string
  /** The runtime of Lambda that has such a client. */
  readonly lambda: string
  /** The command line of the client. */
  command(handler: string): readonly [string, ...string[]]
  /** What a function's variables are there, unless it sets them itself. */
  readonly variables: Readonly<Record<string, string>>
}

/**
 * @param given - `nodejs24.x`, the name of a package that the project has, or its folder. Without it, the runtime of
 * Lambda that has the Node.js which runs here.
 * @throws UsageError where there is none.
 */
export const findRuntime = (given: string | undefined, project: string): Runtime => {
  const lambda = given ?? `nodejs${lambdaMajor()}.x`
  const [, major] = /^nodejs(\d+)\.x$/.exec(lambda) ?? []
  return major !== undefined ? builtIn(lambda, Number(major)) : installed(lambda, project)
}

const runningMajor = () => Number.parseInt(process.versions.node, 10)

/** Lambda has runtimes of even versions only. */
const lambdaMajor = () => Math.max(22, runningMajor() - (runningMajor() % 2))

/** The runtimes from nodejs24.x on have a client that can hold the environment by itself. */
const FIRST_WITH_GATE = 24

const builtIn = (lambda: string, major: number): Runtime => {
  if (major < 22) throw new UsageError(`Expected --runtime to be nodejs22.x or later, got ${lambda}.`)
  return {
    name: `as on ${lambda}${runningMajor() === major ? '' : `, but with Node.js ${process.versions.node}`}`,
    lambda,
    command: () => [process.execPath, inDist('./sandbox/runtime-client.js')],
    variables: major < FIRST_WITH_GATE ? { POST_INVOKE_COMPANION: 'internal' } : {},
  }
}

const installed = (given: string, project: string): Runtime => {
  const folder = findPackage(given, project)
  if (folder === undefined) {
    throw new UsageError(
      `Expected --runtime to be nodejs22.x, nodejs24.x or nodejs26.x, or a package that is installed, or its folder, got ${JSON.stringify(given)}. For AWS's own: npm install --save-dev aws-lambda-ric`,
    )
  }
  const { name, version, bin } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  const path = typeof bin === 'string' ? bin : (Object.values(bin ?? {})[0] as string | undefined)
  if (path === undefined)
    throw new UsageError(`Expected --runtime to be a runtime client, but ${folder} has no program.`)
  const lambda = Number.parseInt(version, 10) <= 3 ? 'nodejs22.x' : 'nodejs24.x'
  return {
    name: `${name} ${version}, as on ${lambda}`,
    lambda,
    command: handler => [process.execPath, join(folder, path), handler],
    variables: {},
  }
}

const findPackage = (given: string, project: string): string | undefined => {
  const isPackage = (folder: string) => existsSync(join(folder, 'package.json'))
  const folder = resolve(given)
  if (isPackage(folder)) return folder
  const places = createRequire(join(project, 'package.json')).resolve.paths(given) ?? []
  return places.map(place => join(place, given)).find(isPackage)
}
