// What `--runtime` names: one of AWS's own runtime clients, installed by the user, in place of the sandbox's.
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'
import type { SandboxOptions } from '../sandbox/index.ts'
import { UsageError } from './errors.ts'

export type Runtime = {
  /** For people. */
  readonly name: string
  options(handler: string): Pick<SandboxOptions, 'runtimeClient' | 'executionEnvironment'>
}

/**
 * @param given - The name of a package that the project has, or its folder.
 * @throws UsageError where there is none.
 */
export const findRuntime = (given: string, project: string): Runtime => {
  const folder = findPackage(given, project)
  if (folder === undefined) {
    throw new UsageError(
      `Expected --runtime to be a package that is installed, or its folder, got ${JSON.stringify(given)}. For AWS's own: npm install --save-dev aws-lambda-ric`,
    )
  }
  const { name, version, bin } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  const path = typeof bin === 'string' ? bin : (Object.values(bin ?? {})[0] as string | undefined)
  if (path === undefined)
    throw new UsageError(`Expected --runtime to be a runtime client, but ${folder} has no program.`)
  return {
    name: `${name} ${version}`,
    options: handler => ({
      runtimeClient: [process.execPath, join(folder, path), handler],
      // Version 3 is that of nodejs22.x.
      executionEnvironment: Number.parseInt(version, 10) <= 3 ? 'AWS_Lambda_nodejs22.x' : 'AWS_Lambda_nodejs24.x',
    }),
  }
}

const findPackage = (given: string, project: string): string | undefined => {
  const isPackage = (folder: string) => existsSync(join(folder, 'package.json'))
  const folder = resolve(given)
  if (isPackage(folder)) return folder
  const places = createRequire(join(project, 'package.json')).resolve.paths(given) ?? []
  return places.map(place => join(place, given)).find(isPackage)
}
