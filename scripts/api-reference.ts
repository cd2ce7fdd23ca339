// Writes docs/api.md: what each entry of the package exports, from the declarations in dist and the TSDoc in them. Needs
// `npm run build`. With --print it writes to the standard output instead, for the test that compares the two.
//
// API Extractor knows what is public and reads the TSDoc; what is rendered here is its model.
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CompilerState, Extractor, ExtractorConfig, ExtractorLogLevel } from '@microsoft/api-extractor'
import {
  type ApiClass,
  type ApiDeclaredItem,
  ApiDocumentedItem,
  type ApiInterface,
  type ApiItem,
  ApiItemKind,
  ApiPackage,
  ApiParameterListMixin,
  ApiProperty,
  ApiPropertyItem,
  type Excerpt,
  ExcerptTokenKind,
} from '@microsoft/api-extractor-model'
import {
  type DocCodeSpan,
  type DocComment,
  type DocErrorText,
  type DocEscapedText,
  type DocFencedCode,
  type DocLinkTag,
  type DocNode,
  type DocPlainText,
  TSDocConfiguration,
  TSDocParser,
} from '@microsoft/tsdoc'

const root = fileURLToPath(new URL('..', import.meta.url))
const { name: packageName, exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

type Entry = { readonly specifier: string; readonly declarations: string; readonly items: readonly ApiItem[] }

const main = () => {
  const entries = Object.entries<{ types?: string }>(exports).flatMap(([path, { types }]) =>
    types === undefined ? [] : [{ specifier: `${packageName}${path.slice(1)}`, declarations: types }],
  )
  const read = readEntries(entries)
  const page = render(read)
  if (process.argv.includes('--print')) process.stdout.write(page)
  else writeFileSync(join(root, 'docs', 'api.md'), page)
}

// --- The model

const readEntries = (entries: readonly { specifier: string; declarations: string }[]): Entry[] => {
  const folder = mkdtempSync(join(tmpdir(), 'post-invoke-api-'))
  try {
    for (const name of ['package.json', 'dist']) {
      cpSync(join(root, name), join(folder, name), {
        recursive: true,
        filter: path => !path.includes('.') || /\.(d\.ts|json)$/.test(path) || path.endsWith('/dist'),
      })
    }
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'))
    makeInterfaces(join(folder, 'dist'))
    const files = entries.map(({ declarations }) => join(folder, declarations))
    const configs = files.map(file => configure(folder, file, files))
    const compilerState = CompilerState.create(configs[0] as ExtractorConfig) // all of them have the same files
    const items = configs.map(config => extract(config, compilerState))
    return entries.map((entry, index) => ({ ...entry, items: items[index] ?? [] }))
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const OBJECT_TYPE = /^export type (\w+) = (?:(\w+) & )?\{\n((?:(?!\}).*\n)*)\};$/gm

/**
 * The model has the members of an interface, but an alias is one piece of text to it, without its comments. So the
 * declarations are read as if what the sources write as a `type` of an object were an interface.
 */
const makeInterfaces = (folder: string) => {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith('.d.ts'))
    .map(name => join(folder, name))
  const texts = files.map(file => readFileSync(file, 'utf8'))
  const aliases = new Set(texts.flatMap(text => [...text.matchAll(/^export type (\w+) = /gm)].map(match => match[1])))
  const objects = new Set(texts.flatMap(text => [...text.matchAll(OBJECT_TYPE)].map(match => match[1])))
  files.forEach((file, index) => {
    const text = texts[index]?.replaceAll(
      OBJECT_TYPE,
      (whole, name: string, base: string | undefined, body: string) => {
        // A union cannot be extended.
        if (base !== undefined && aliases.has(base) && !objects.has(base)) return whole
        return `export interface ${name}${base === undefined ? '' : ` extends ${base}`} {\n${body}}`
      },
    )
    writeFileSync(file, text ?? '')
  })
}

const configure = (folder: string, file: string, files: string[]): ExtractorConfig =>
  ExtractorConfig.prepare({
    configObject: {
      projectFolder: folder,
      mainEntryPointFilePath: file,
      compiler: {
        overrideTsconfig: {
          compilerOptions: {
            target: 'ES2023',
            lib: ['ES2024', 'ESNext.Disposable'],
            module: 'NodeNext',
            moduleResolution: 'NodeNext',
            types: ['node'],
            strict: true,
            skipLibCheck: true,
            allowImportingTsExtensions: true,
            noEmit: true,
          },
          files,
        },
      },
      docModel: { enabled: true, apiJsonFilePath: join(folder, 'model.api.json') },
      tsdocMetadata: { enabled: false },
      messages: {
        compilerMessageReporting: { default: { logLevel: ExtractorLogLevel.Error } },
        tsdocMessageReporting: { default: { logLevel: ExtractorLogLevel.Error } },
        extractorMessageReporting: {
          default: { logLevel: ExtractorLogLevel.Error },
          'ae-missing-release-tag': { logLevel: ExtractorLogLevel.None },
        },
      },
    },
    configObjectFullPath: undefined,
    packageJsonFullPath: join(folder, 'package.json'),
  })

const extract = (config: ExtractorConfig, compilerState: CompilerState): readonly ApiItem[] => {
  const faults: string[] = []
  Extractor.invoke(config, {
    compilerState,
    localBuild: true,
    messageCallback: message => {
      message.handled = true
      if (message.logLevel === ExtractorLogLevel.Error || message.logLevel === ExtractorLogLevel.Warning) {
        faults.push(message.formatMessageWithLocation(config.projectFolder))
      }
    },
  })
  if (faults.length > 0) throw cannotBeMade(faults)
  return ApiPackage.loadFromJsonFile(config.apiJsonFilePath).entryPoints[0]?.members ?? []
}

const cannotBeMade = (faults: readonly string[]) =>
  new Error(`The reference cannot be made:\n${[...new Set(faults)].join('\n')}`)

/** What has no text that says what it is, parameters of functions among it. */
const undocumented = (item: ApiItem): string[] => {
  const docs = docsOf(item)
  const parameters =
    item.kind === ApiItemKind.Function && ApiParameterListMixin.isBaseClassOf(item) ? item.parameters : []
  const silent = parameters.filter(({ name }) => textOf(docs?.params.tryGetBlockByName(name)?.content) === '')
  return [
    ...(textOf(docs?.summarySection) === '' ? [`${pathOf(item)}${item.displayName} has no docstring`] : []),
    ...silent.map(({ name }) => `${item.displayName}() does not say what its parameter ${name} is`),
    ...item.members.flatMap(undocumented),
  ]
}

const pathOf = ({ parent }: ApiItem) =>
  parent && (parent.kind === ApiItemKind.Interface || parent.kind === ApiItemKind.Class) ? `${parent.displayName}.` : ''

const docsOf = (item: ApiItem): DocComment | undefined =>
  item instanceof ApiDocumentedItem ? item.tsdocComment : undefined

// --- The page

const KINDS: Partial<Record<ApiItemKind, string>> = {
  [ApiItemKind.Function]: 'function',
  [ApiItemKind.Variable]: 'function',
  [ApiItemKind.Class]: 'class',
  [ApiItemKind.Interface]: 'type',
  [ApiItemKind.TypeAlias]: 'type',
}

const kindOf = (item: ApiItem): string => {
  const kind = KINDS[item.kind]
  if (kind === undefined)
    throw new Error(`Expected a function, a class or a type, ${item.displayName} is a ${item.kind}`)
  // A value that is typed by one of our types is a function; what is in capitals is none, and no provider is.
  return kind === 'function' && !/^[a-z].*(?<!Provider)$/.test(item.displayName) ? 'constant' : kind
}

const headingOf = (item: ApiItem) => {
  const kind = kindOf(item)
  return `${kind} ${item.displayName}${kind === 'function' ? '()' : ''}`
}

const anchorOf = (item: ApiItem) => `${kindOf(item)}-${item.displayName.toLowerCase()}`

const ORDER = ['function', 'constant', 'class', 'type']

/** The anchors of what the page describes, by name; a type and a function can have one name. */
let anchors: Map<string, string>

const render = (entries: readonly Entry[]): string => {
  const described = new Map<string, ApiItem>()
  for (const { items } of entries) {
    for (const item of items) if (!described.has(anchorOf(item))) described.set(anchorOf(item), item)
  }
  anchors = new Map()
  const sorted = [...described].sort(([, one], [, other]) => ORDER.indexOf(kindOf(one)) - ORDER.indexOf(kindOf(other)))
  for (const [anchor, { displayName }] of sorted) {
    anchors.set(displayName, anchor)
    if (kindOf(described.get(anchor) as ApiItem) === 'type') anchors.set(`type ${displayName}`, anchor)
    else anchors.set(`value ${displayName}`, anchor)
  }

  const faults = entries.flatMap(({ items }) => items.flatMap(undocumented))
  if (faults.length > 0) throw cannotBeMade(faults)

  const lines = [
    '<!-- Written by `npm run docs` from the docstrings in src. -->',
    '',
    '# API reference',
    '',
    ...entries.map(({ specifier }) => `- [\`${specifier}\`](#${specifier.replaceAll(/[^a-z-]/g, '')})`),
    '',
  ]
  for (const { specifier, declarations, items } of entries) {
    lines.push(`## ${specifier}`, '', entryDocs(declarations), '')
    // Of a function's overloads the first speaks for all.
    const firsts = items.filter(item => items.find(other => anchorOf(other) === anchorOf(item)) === item)
    const sorted = firsts.toSorted(
      (one, other) =>
        ORDER.indexOf(kindOf(one)) - ORDER.indexOf(kindOf(other)) || one.displayName.localeCompare(other.displayName),
    )
    if (sorted.length > 0) {
      lines.push('| Export | |', '|---|---|')
      for (const item of sorted)
        lines.push(`| [${headingOf(item)}](#${anchorOf(item)}) | ${cell(firstSentence(item))} |`)
      lines.push('')
    }
    for (const item of sorted) if (described.get(anchorOf(item)) === item) lines.push(...renderItem(item))
  }
  return `${lines
    .join('\n')
    .replaceAll(/\n{3,}/g, '\n\n')
    .trimEnd()}\n`
}

/** The comment at the top of the entry's source that has `@packageDocumentation`. */
const entryDocs = (declarations: string): string => {
  const source = declarations.replace(/^\.\/dist\//, 'src/').replace(/\.d\.ts$/, '.ts')
  const comment = /\/\*\*(?:(?!\*\/)[\s\S])*@packageDocumentation[\s\S]*?\*\//.exec(
    readFileSync(join(root, source), 'utf8'),
  )
  if (!comment) throw new Error(`Expected ${source} to begin with a comment with @packageDocumentation`)
  const { docComment, log } = new TSDocParser(new TSDocConfiguration()).parseString(comment[0])
  if (log.messages.length > 0) throw new Error(`${source}: ${log.messages.map(({ text }) => text).join('\n')}`)
  return [textOf(docComment.summarySection), ...examplesOf(docComment)].join('\n\n')
}

const firstSentence = (item: ApiItem): string => {
  const [paragraph = ''] = textOf(docsOf(item)?.summarySection).split('\n\n')
  return /^.*?[.:](?= [A-Z`]|$)/s.exec(paragraph)?.[0].replace(/:$/, '.') ?? paragraph
}

const renderItem = (item: ApiItem): string[] => {
  const docs = docsOf(item)
  const lines = [`### ${headingOf(item)}`, '', textOf(docs?.summarySection), '']
  if (item.kind === ApiItemKind.Interface || item.kind === ApiItemKind.Class)
    lines.push(...renderMembers(item as ApiInterface | ApiClass))
  else lines.push('```ts', signatureOf(item as ApiDeclaredItem), '```', '')
  lines.push(...parametersOf(item, docs))
  if (docs?.returnsBlock) lines.push(`**Returns** ${textOf(docs.returnsBlock.content)}`, '')
  for (const { blockTag, content } of docs?.customBlocks ?? []) {
    if (blockTag.tagNameWithUpperCase === '@THROWS') lines.push(`**Throws** ${textOf(content)}`, '')
  }
  lines.push(...(docs ? examplesOf(docs).flatMap(example => [example, '']) : []))
  return lines
}

const renderMembers = (item: ApiInterface | ApiClass): string[] => {
  const lines: string[] = []
  const bases = 'extendsTypes' in item ? item.extendsTypes : item.extendsType ? [item.extendsType] : []
  if (bases.length > 0) lines.push(`Extends ${bases.map(({ excerpt }) => codeOf(excerpt)).join(', ')}.`, '')
  lines.push('| Member | Type | Meaning |', '|---|---|---|')
  for (const member of item.members) {
    if (member.kind === ApiItemKind.Constructor) continue // the package makes them, users do not
    const isOptional = member instanceof ApiPropertyItem && member.isOptional
    const name = `${member.displayName.replaceAll('"', '')}${isOptional ? '?' : ''}`
    const type = codeOf(typeOf(member as ApiDeclaredItem), isOptional ? / \| undefined$/ : /;$/)
    const docs = docsOf(member)
    const throwing = (docs?.customBlocks ?? [])
      .filter(({ blockTag }) => blockTag.tagNameWithUpperCase === '@THROWS')
      .map(({ content }) => `Throws ${textOf(content)}`)
    const returning = docs?.returnsBlock ? [`Returns ${textOf(docs.returnsBlock.content)}`] : []
    const meaning = [textOf(docs?.summarySection), ...parameterLines(member, docs), ...returning, ...throwing]
    lines.push(`| \`${name}\` | ${type} | ${cell(meaning.join(' '))} |`)
  }
  lines.push('')
  return lines
}

const typeOf = (member: ApiDeclaredItem): Excerpt => {
  if (!(member instanceof ApiPropertyItem)) return member.excerpt
  const value = member instanceof ApiProperty ? member.initializerExcerpt : undefined
  return member.propertyTypeExcerpt.isEmpty && value ? value : member.propertyTypeExcerpt
}

const parameterLines = (item: ApiItem, docs: DocComment | undefined): string[] =>
  ApiParameterListMixin.isBaseClassOf(item)
    ? item.parameters.flatMap(({ name }) => {
        const text = textOf(docs?.params.tryGetBlockByName(name)?.content)
        return text === '' ? [] : [`\`${name}\`: ${text}`]
      })
    : []

const parametersOf = (item: ApiItem, docs: DocComment | undefined): string[] => {
  const blocks = docs?.params.blocks ?? []
  if (blocks.length === 0) return []
  const types = new Map(
    ApiParameterListMixin.isBaseClassOf(item)
      ? item.parameters.map(({ name, parameterTypeExcerpt }) => [name, codeOf(parameterTypeExcerpt)])
      : [],
  )
  const hasTypes = types.size > 0
  return [
    hasTypes ? '| Parameter | Type | Meaning |' : '| Parameter | Meaning |',
    hasTypes ? '|---|---|---|' : '|---|---|',
    ...blocks.map(({ parameterName, content }) =>
      hasTypes
        ? `| \`${parameterName}\` | ${types.get(parameterName) ?? ''} | ${cell(textOf(content))} |`
        : `| \`${parameterName}\` | ${cell(textOf(content))} |`,
    ),
    '',
  ]
}

const signatureOf = ({ excerpt }: ApiDeclaredItem) =>
  excerpt.text
    .replace(/^export (declare )?/, '')
    .replace(/;$/, '')
    .replaceAll(/^ {4,}/gm, indent => ' '.repeat(indent.length / 2))

/** A type in a table: what the page describes is a link, the rest is code. */
const codeOf = (excerpt: Excerpt, without = /$^/): string => {
  let text = ''
  let code = ''
  const flush = () => {
    const [, before = '', middle = '', after = ''] = /^(\s*)(.*?)(\s*)$/s.exec(code.replaceAll(/\s+/g, ' ')) ?? []
    if (middle !== '') text += `${before}\`${middle}\`${after}`
    code = ''
  }
  for (const { kind, text: part } of excerpt.spannedTokens) {
    const anchor = kind === ExcerptTokenKind.Reference ? (anchors.get(`type ${part}`) ?? anchors.get(part)) : undefined
    if (anchor === undefined) {
      code += part.replace(without, '')
      continue
    }
    flush()
    text += `[\`${part}\`](#${anchor})`
  }
  flush()
  return text.replaceAll('|', '\\|')
}

const cell = (text: string) => text.replaceAll('|', '\\|').replaceAll(/\s*\n\s*/g, ' ')

// --- TSDoc

const examplesOf = ({ customBlocks }: DocComment): string[] =>
  customBlocks
    .filter(({ blockTag }) => blockTag.tagNameWithUpperCase === '@EXAMPLE')
    .map(({ content }) => textOf(content))

const textOf = (node: DocNode | undefined): string => (node ? markdownOf(node).trim() : '')

const markdownOf = (node: DocNode): string => {
  switch (node.kind) {
    case 'PlainText':
      return (node as DocPlainText).text
    case 'SoftBreak':
      return '\n'
    case 'CodeSpan':
      return `\`${(node as DocCodeSpan).code}\``
    case 'FencedCode': {
      const { language, code } = node as DocFencedCode
      return `\`\`\`${language}\n${code}\`\`\`\n\n`
    }
    case 'EscapedText':
      return (node as DocEscapedText).decodedText
    case 'LinkTag':
      return linkOf(node as DocLinkTag)
    case 'ErrorText':
      return (node as DocErrorText).text
    case 'Paragraph':
      return `${node.getChildNodes().map(markdownOf).join('')}\n\n`
    default:
      return node.getChildNodes().map(markdownOf).join('')
  }
}

const linkOf = ({ codeDestination, urlDestination, linkText }: DocLinkTag): string => {
  if (urlDestination) return `[${linkText ?? urlDestination}](${urlDestination})`
  const path = (codeDestination?.memberReferences ?? []).map(({ memberIdentifier }) => memberIdentifier?.identifier)
  const anchor = anchors.get(`value ${path[0]}`) ?? anchors.get(path[0] ?? '')
  if (anchor === undefined) throw new Error(`Expected a link to something that is described, got ${path.join('.')}`)
  return `[\`${linkText ?? path.join('.')}\`](#${anchor})`
}

main()
