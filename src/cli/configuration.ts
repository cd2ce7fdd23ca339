// What a template.yaml (SAM, CloudFormation) or a serverless.yml says of a handler's function.
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { basename, dirname, extname, join, resolve } from 'node:path'
import { parse } from 'yaml'
import { UsageError } from './errors.ts'
import type { HandlerFile } from './handler-file.ts'
import { fromHere, layerFolder, layerZip } from './package-files.ts'

export type FunctionConfiguration = {
  /** The file, as a person here would write it. */
  readonly file: string
  readonly name: string
  /** `nodejs24.x`. Missing for an image, and where it is no plain word. */
  readonly runtime?: string
  readonly isImage: boolean
  /** Seconds. Missing where it is no plain number. */
  readonly timeout?: number
  readonly memory?: number
  /** Those with plain values. */
  readonly variables: Readonly<Record<string, string>>
  /** Our layer among the function's, if any. */
  readonly layer?: LayerConfiguration
  /** Whether there are layers of which it cannot be told what they are. */
  readonly hasUnknownLayers: boolean
}

export type LayerConfiguration = {
  readonly text: string
  /** Of a layer in the same file. */
  readonly content?: 'same' | 'other' | 'missing'
  readonly path?: string
}

const NAMES = ['template.yaml', 'template.yml', 'serverless.yml', 'serverless.yaml']

/** @returns the configuration beside the handler's package.json, or in the current folder. */
export const findConfiguration = ({ project }: HandlerFile): string | undefined =>
  [project, process.cwd()].flatMap(folder => NAMES.map(name => join(folder, name))).find(path => existsSync(path))

/**
 * @param wanted - The function's name in the file; else the one whose handler it is, or the only one.
 * @returns `undefined` where it cannot be told which one it is.
 * @throws UsageError for a file that cannot be read, and a name that is not in it.
 */
export const readConfiguration = (
  path: string,
  handler: HandlerFile,
  wanted: string | undefined,
): FunctionConfiguration | undefined => {
  const document = readYaml(path)
  const functions = isRecord(document.Resources) ? samFunctions(document, path) : serverlessFunctions(document, path)
  if (wanted !== undefined) {
    const found = functions.find(({ name }) => name === wanted)
    if (found) return found.configuration
    const names = functions.map(({ name }) => name).join(', ') || 'none'
    throw new UsageError(
      `Expected --function to name a function of ${fromHere(path)} (${names}), got ${JSON.stringify(wanted)}.`,
    )
  }
  const matching = functions.filter(({ handlerSetting }) => isHandlerOf(handlerSetting, handler))
  const [only] = matching.length > 0 ? matching : functions
  return matching.length === 1 || functions.length === 1 ? only?.configuration : undefined
}

type Found = { readonly name: string; readonly handlerSetting: unknown; readonly configuration: FunctionConfiguration }
type Fields = Readonly<Record<string, unknown>>

/** Builds put the file elsewhere: only its name and the export stay the same. */
const isHandlerOf = (setting: unknown, { file, exported }: HandlerFile) =>
  typeof setting === 'string' && basename(setting) === `${basename(file, extname(file))}.${exported}`

const samFunctions = (document: Fields, path: string): readonly Found[] => {
  const resources = record(document.Resources)
  const globals = record(record(document.Globals).Function)
  return Object.entries(resources)
    .filter(([, { Type }]: [string, any]) => Type === 'AWS::Serverless::Function' || Type === 'AWS::Lambda::Function')
    .map(([name, resource]) => {
      const { Type, Properties } = record(resource)
      const inherited = Type === 'AWS::Serverless::Function' ? globals : {}
      const own = record(Properties)
      const value = { ...inherited, ...own }
      const layers = [...list(inherited.Layers), ...list(own.Layers)]
      return {
        name,
        handlerSetting: value.Handler,
        configuration: {
          file: fromHere(path),
          name,
          ...plain('runtime', value.Runtime, 'string'),
          ...plain('timeout', value.Timeout ?? 3, 'number'),
          ...plain('memory', value.MemorySize ?? 128, 'number'),
          isImage: value.PackageType === 'Image',
          variables: plainValues({
            ...record(record(inherited.Environment).Variables),
            ...record(record(own.Environment).Variables),
          }),
          ...findLayer(
            layers,
            reference => {
              const { Properties } = record(resources[reference])
              const { LayerName, ContentUri, Content } = record(Properties)
              return { text: `${reference} ${String(LayerName ?? '')}`, content: ContentUri ?? Content }
            },
            dirname(path),
          ),
        },
      }
    })
}

const serverlessFunctions = (document: Fields, path: string): readonly Found[] => {
  const provider = record(document.provider)
  const defined = record(document.layers)
  return Object.entries(record(document.functions)).map(([name, given]) => {
    const own = record(given)
    const value = { ...provider, ...own }
    return {
      name,
      handlerSetting: own.handler,
      configuration: {
        file: fromHere(path),
        name,
        ...plain('runtime', value.runtime, 'string'),
        ...plain('timeout', value.timeout ?? 6, 'number'),
        ...plain('memory', value.memorySize ?? 1024, 'number'),
        isImage: own.image !== undefined,
        variables: plainValues({ ...record(provider.environment), ...record(own.environment) }),
        ...findLayer(
          list(own.layers ?? provider.layers),
          reference => {
            const key = Object.keys(defined).find(
              key => `${key[0]?.toUpperCase()}${key.slice(1)}LambdaLayer` === reference,
            )
            const layer = record(defined[key ?? ''])
            return {
              text: `${reference} ${String(layer.name ?? '')}`,
              content: record(layer.package).artifact ?? layer.path,
            }
          },
          dirname(path),
        ),
      },
    }
  })
}

/** Ours is known by its name: in its ARN, its own or that of what it is made of. */
const findLayer = (
  layers: readonly unknown[],
  resolveReference: (reference: string) => { readonly text: string; readonly content: unknown },
  folder: string,
): Pick<FunctionConfiguration, 'layer' | 'hasUnknownLayers'> => {
  let hasUnknownLayers = false
  for (const layer of layers) {
    const reference = record(layer).Ref
    const { text, content } =
      typeof reference === 'string' ? resolveReference(reference) : { text: JSON.stringify(layer), content: undefined }
    const isLocal = typeof content === 'string'
    if (/post-?invoke/i.test(text) || (isLocal && /post-?invoke/i.test(content))) {
      const path = isLocal ? resolve(folder, content) : undefined
      return {
        hasUnknownLayers,
        layer: {
          text: typeof reference === 'string' ? reference : text,
          ...(path ? { path: fromHere(path), content: compare(path) } : {}),
        },
      }
    }
    if (typeof layer !== 'string' || !layer.startsWith('arn:')) hasUnknownLayers = true
  }
  return { hasUnknownLayers }
}

const compare = (path: string): NonNullable<LayerConfiguration['content']> => {
  const there = statSync(path, { throwIfNoEntry: false })
  if (!there) return 'missing'
  const own = there.isDirectory() ? layerFolder : layerZip
  const files = there.isDirectory() ? filesOf(own) : ['']
  const isSame = (file: string) => hash(join(path, file)) === (hash(join(own, file)) ?? null)
  return files.every(isSame) ? 'same' : 'other'
}

const filesOf = (folder: string): readonly string[] =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter(file => statSync(join(folder, file)).isFile())

const hash = (path: string): string | undefined =>
  existsSync(path) ? createHash('sha256').update(readFileSync(path)).digest('hex') : undefined

/** CloudFormation's short forms mean what their long forms do. */
const customTags = (
  [
    'Ref',
    'Condition',
    'Sub',
    'GetAtt',
    'ImportValue',
    'FindInMap',
    'Join',
    'If',
    'Select',
    'Split',
    'Base64',
    'Equals',
    'Not',
    'And',
    'Or',
    'GetAZs',
    'Cidr',
    'Transform',
    'ToJsonString',
    'Length',
  ] as const
).flatMap(name => {
  const key = name === 'Ref' || name === 'Condition' ? name : `Fn::${name}`
  return [
    { tag: `!${name}`, resolve: (value: string) => ({ [key]: value }) },
    { tag: `!${name}`, collection: 'seq', resolve: () => ({ [key]: [] }) } as const,
    { tag: `!${name}`, collection: 'map', resolve: () => ({ [key]: {} }) } as const,
  ]
})

const readYaml = (path: string): Fields => {
  try {
    return record(parse(readFileSync(path, 'utf8'), { customTags, logLevel: 'error' }))
  } catch (error) {
    throw new UsageError(`Expected ${fromHere(path)} to be YAML that can be read, got: ${(error as Error).message}`)
  }
}

const isRecord = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const record = (value: unknown): Fields => (isRecord(value) ? value : {})

const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : [])

const plain = <Key extends string, Type extends 'string' | 'number'>(key: Key, value: unknown, type: Type) =>
  (typeof value === type ? { [key]: value } : {}) as { [K in Key]?: Type extends 'string' ? string : number }

const plainValues = (values: Fields): Record<string, string> =>
  Object.fromEntries(
    Object.entries(values).flatMap(([name, value]) =>
      ['string', 'number', 'boolean'].includes(typeof value) && !/\$\{/.test(String(value))
        ? [[name, String(value)]]
        : [],
    ),
  )
