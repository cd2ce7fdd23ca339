// Makes of a person's handler file what the sandbox can be told of: a folder and a `file.export`, as on Lambda.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, dirname, extname, join, relative } from 'node:path'
import { pathToFileURL } from 'node:url'
import { CommandError, UsageError } from './errors.ts'
import type { HandlerFile } from './handler-file.ts'
import { fromHere } from './package-files.ts'
import { LOADED_CHANNEL } from './probe-name.ts'

export type StagedHandler = {
  readonly taskRoot: string
  /** As on Lambda. */
  readonly handler: string
  /** What its process needs in NODE_OPTIONS. */
  readonly nodeOptions: readonly string[]
  /** How it is run: as it is, bundled by the project's esbuild, or with its types stripped by Node.js. */
  readonly how: 'plain' | 'esbuild' | 'strip-types'
  /** What a person can do, if anything is known, about an Init that failed with this message. */
  hint(message: string): string | undefined
  remove(): void
}

/**
 * TypeScript is bundled with the project's own esbuild where it has one, which knows enums, `paths` and imports without an
 * ending. Packages stay outside of the bundle. Without esbuild Node.js strips the types.
 *
 * @throws UsageError for TypeScript that can be run neither way, CommandError where esbuild finds an error.
 */
export const stageHandler = async (
  handler: HandlerFile,
  options: { readonly bundle: boolean; readonly probe?: { readonly run: boolean } },
): Promise<StagedHandler> => {
  const esbuild = handler.isTypeScript && options.bundle ? await loadEsbuild(handler.project) : undefined
  if (handler.isTypeScript && !esbuild) requireStripping(handler)
  const how = esbuild ? 'esbuild' : handler.isTypeScript ? 'strip-types' : 'plain'
  const folder = makeFolder(handler.project)
  const remove = () => {
    process.off('exit', remove)
    rmSync(folder, { recursive: true, force: true })
  }
  process.once('exit', remove) // also when the output's reader has gone
  try {
    const entry = esbuild ? await bundle(esbuild, handler, folder) : handler.file
    writeFileSync(join(folder, 'index.mjs'), entryModule(handler, entry, options.probe))
  } catch (error) {
    remove()
    throw error
  }
  return {
    taskRoot: handler.project,
    handler: `${join(relative(handler.project, folder), 'index')}.handler`,
    nodeOptions: NODE_OPTIONS[how],
    how,
    hint: message => hintFor(handler, how, message),
    remove,
  }
}

const stripsByItself = Boolean((process.features as { typescript?: string | false }).typescript)

const NODE_OPTIONS = {
  plain: [],
  esbuild: ['--enable-source-maps'],
  'strip-types': stripsByItself ? [] : ['--experimental-strip-types'],
}

/** Lambda's name for a handler knows neither endings nor dots in a file's name; this module can be named. */
const entryModule = ({ file, exported }: HandlerFile, entry: string, probe: { readonly run: boolean } | undefined) => `\
${probe ? `import { probe } from ${JSON.stringify(new URL('./cli/probe.js', import.meta.url).href)}` : ''}
import * as exports from ${JSON.stringify(pathToFileURL(entry).href)}
const path = ${JSON.stringify(exported.split('.'))}
const lookUp = from => path.reduce((value, key) => value?.[key], from)
const found = lookUp(exports) ?? lookUp(exports.default)
if (typeof found !== 'function') {
  const names = Object.keys(exports).join(', ') || 'nothing'
  throw new TypeError(${JSON.stringify(`Expected ${fromHere(file)} to export the function ${exported}, it exports `)} + names + '.')
}
process.getBuiltinModule('node:diagnostics_channel').channel(${JSON.stringify(LOADED_CHANNEL)}).publish({})
export const handler = ${probe ? `probe(found, ${probe.run})` : 'found'}
`

/** In the project and not in its node_modules: from there neither its packages nor its own name would be found. */
const makeFolder = (project: string) => mkdtempSync(join(project, '.middy-post-invoke-'))

/** What is used of esbuild, whose version is the project's. */
type Esbuild = { build(options: object): Promise<unknown> }

const loadEsbuild = async (project: string): Promise<Esbuild | undefined> => {
  try {
    const path = createRequire(join(project, 'package.json')).resolve('esbuild')
    const module = await import(pathToFileURL(path).href)
    return (module.default ?? module) as Esbuild
  } catch {
    return undefined
  }
}

const bundle = async ({ build }: Esbuild, { file, project }: HandlerFile, folder: string): Promise<string> => {
  const run = async (format: 'esm' | 'cjs', define: Record<string, string> = {}) => {
    const outfile = join(folder, format === 'esm' ? 'bundle.mjs' : 'bundle.cjs')
    await build({
      entryPoints: [file],
      outfile,
      format,
      define,
      bundle: true,
      packages: 'external',
      platform: 'node',
      target: `node${process.versions.node}`,
      sourcemap: 'inline',
      absWorkingDir: project,
      logLevel: 'silent',
    })
    return outfile
  }
  try {
    if (extname(file) === '.cts') return await run('cjs')
    if (extname(file) === '.mts' || isModule(project)) return await run('esm')
    // Such a project is mostly written with `import`, and Middy is an ES module: only what calls `require` has to be CommonJS.
    const names = { __filename: JSON.stringify(file), __dirname: JSON.stringify(dirname(file)) }
    const outfile = await run('esm', names)
    return readFileSync(outfile, 'utf8').includes(ESBUILD_REQUIRE) ? await run('cjs', names) : outfile
  } catch (error) {
    throw new CommandError(`esbuild could not bundle ${fromHere(file)}. ${(error as Error).message}`)
  }
}

/** What esbuild puts into an ES module in place of `require`, to fail with. */
const ESBUILD_REQUIRE = 'Dynamic require of "'

const isModule = (project: string): boolean => readManifest(project).type === 'module'

type Manifest = { readonly type?: string } & Readonly<
  Partial<Record<'dependencies' | 'devDependencies' | 'optionalDependencies', Record<string, string>>>
>

const readManifest = (project: string): Manifest => {
  try {
    return JSON.parse(readFileSync(join(project, 'package.json'), 'utf8'))
  } catch {
    return {}
  }
}

const requireStripping = ({ file, project }: HandlerFile) => {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  const here = fromHere(project)
  const install = `Install it${here === '.' ? '' : ` in ${here}`}: npm install --save-dev esbuild`
  if (extname(file) === '.tsx')
    throw new UsageError(`Expected esbuild for ${basename(file)}: Node.js runs no .tsx. ${install}`)
  if (major > 22 || minor >= 6) return
  throw new UsageError(
    `Expected esbuild, or Node.js 22.6 or later, for ${basename(file)}, got Node.js ${process.versions.node}. ${install}`,
  )
}

/** What a person can do about an Init that failed for the way in which Node.js loads the file. */
const hintFor = (handler: HandlerFile, how: StagedHandler['how'], message: string): string | undefined => {
  const missing = missingPackage(message)
  if (missing !== undefined && !(handler.isTypeScript && isPathOf(handler, missing))) {
    return installHint(handler, missing)
  }
  if (how === 'esbuild') return undefined
  const typed = handler.isTypeScript
  if (/Cannot use import statement outside a module|Unexpected token 'export'/.test(message)) {
    const bundled = typed ? ', or install esbuild, which bundles it: npm install --save-dev esbuild' : ''
    return `It is an ES module, and ${fromHere(join(handler.project, 'package.json'))} says "type": "commonjs". Change that (npm pkg set type=module), give the file the ending ${typed ? '.mts' : '.mjs'}${bundled}.`
  }
  return typed && STRIP_ERRORS.test(message) ? STRIP_HINT : undefined
}

/** The package of which Node.js says, for an import or a require, that it is not there. */
const missingPackage = (message: string): string | undefined => {
  const [, specifier = ''] = /Cannot find (?:package|module) '([^']+)'/.exec(message) ?? []
  return /^(@[a-z\d~-][\w.~-]*\/)?[a-z\d~-][\w.~-]*(?=$|\/)/.exec(specifier)?.[0]
}

/** Whether tsconfig.json makes such a name a path of the project's own, which only a bundler follows. */
const isPathOf = ({ project }: HandlerFile, name: string): boolean => {
  try {
    const text = readFileSync(join(project, 'tsconfig.json'), 'utf8')
    const [first = name] = name.split('/')
    return text.includes('"paths"') && [name, `${name}/*`, `${first}/*`].some(path => text.includes(`"${path}"`))
  } catch {
    return false
  }
}

const installHint = ({ project }: HandlerFile, name: string): string => {
  const here = fromHere(project)
  const where = here === '.' ? '' : ` in ${here}`
  const manifest = readManifest(project)
  const isListed = name in { ...manifest.dependencies, ...manifest.devDependencies, ...manifest.optionalDependencies }
  return isListed
    ? `The package ${name} is listed in package.json, but not installed. Install it${where}: npm install`
    : `The package ${name} is not installed. Install it${where}: npm install ${name}`
}

const STRIP_ERRORS =
  /ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX|ERR_MODULE_NOT_FOUND|ERR_UNSUPPORTED_DIR_IMPORT|ERR_UNKNOWN_FILE_EXTENSION/

const STRIP_HINT =
  'Without esbuild Node.js only strips the types: enums, paths of tsconfig.json and imports without an ending do not work. Install esbuild in the project, and it bundles the handler: npm install --save-dev esbuild'
