// Which file and which of its exports a person means by FILE, FILE.EXPORT or FILE#EXPORT.
import { existsSync, statSync } from 'node:fs'
import { basename, dirname, extname, join, parse, relative, resolve } from 'node:path'
import { UsageError } from './errors.ts'

export type HandlerFile = {
  /** Absolute. */
  readonly file: string
  /** May be a path into an object, `api.create`, as on Lambda. */
  readonly exported: string
  /** The nearest folder upwards that has a package.json, else the file's own. */
  readonly project: string
  readonly isTypeScript: boolean
}

export const HANDLER_ARGUMENT = 'the handler: handler.ts, src/index.handler or src/index.ts#handler'

/** @throws UsageError where there is no such file. */
export const findHandler = (given: string): HandlerFile => {
  const found = candidates(given).find(({ path }) => isFile(path))
  if (!found) throw new UsageError(describeMissing(given))
  const file = resolve(found.path)
  return {
    file,
    exported: found.exported,
    project: findProject(dirname(file)),
    isTypeScript: /^\.[mc]?tsx?$/.test(extname(file)),
  }
}

/** In the order of Lambda's own client where there is more than one, with TypeScript's after them. */
const EXTENSIONS = ['.js', '.mjs', '.cjs', '.ts', '.mts', '.cts', '.tsx']

type Candidate = { readonly path: string; readonly exported: string }

const candidates = (given: string): readonly Candidate[] => {
  const found: Candidate[] = [{ path: given, exported: 'handler' }]
  const add = (stem: string, exported: string) => {
    if (stem === '' || !/^[^#.]+(\.[^#.]+)*$/.test(exported)) return
    for (const extension of ['', ...EXTENSIONS]) found.push({ path: stem + extension, exported })
  }
  const hash = given.lastIndexOf('#')
  if (hash > 0) add(given.slice(0, hash), given.slice(hash + 1))
  add(given, 'handler')
  const folder = given.slice(0, given.length - basename(given).length)
  const parts = basename(given).split('.')
  for (let count = parts.length - 1; count > 0; count -= 1) {
    add(folder + parts.slice(0, count).join('.'), parts.slice(count).join('.'))
  }
  return found
}

const describeMissing = (given: string): string => {
  const what = `Expected FILE to be ${HANDLER_ARGUMENT}, got ${JSON.stringify(given)}`
  if (statSync(given, { throwIfNoEntry: false })?.isDirectory()) return `${what}, which is a folder.`
  return `${what}. There is no such file in ${resolve(dirname(given))}.`
}

const findProject = (folder: string): string => {
  for (let at = folder; ; at = dirname(at)) {
    if (existsSync(join(at, 'package.json'))) return at
    if (at === parse(at).root) return folder
  }
}

/** What Lambda's configuration calls the handler: no ending, relative to the folder that is deployed. */
export const handlerSetting = ({ file, exported, project }: HandlerFile): string => {
  const { dir, name } = parse(relative(project, file))
  return `${join(dir, name)}.${exported}`
}

const isFile = (path: string) => statSync(path, { throwIfNoEntry: false })?.isFile() === true
