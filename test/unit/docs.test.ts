// The documentation says what the code is: its samples are files that are compiled, its links lead somewhere, and the
// messages that it explains are those of the sources.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from '@jest/globals'
import { messagesOf } from '../support/source-messages.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const read = (path: string) => readFileSync(join(root, path), 'utf8')

/** Of the whole repository. */
const pages = markdownFiles('')

describe.each(pages)('docs: %s', page => {
  const text = read(page)

  it('stands in the index of the documentation', () => {
    if (dirname(page) === 'docs') expect(linksOf(read('README.md'))).toContain(page)
  })

  it('has no code that is not a file of examples/', () => {
    if (page === 'docs/api.md') return // its samples are in src: test/package/reference.test.ts compiles them
    const samples = samplesOf(text)
    expect(samples.filter(({ marker }) => marker === undefined)).toEqual([])
    for (const { marker = '', code } of samples) expect({ marker, code }).toEqual({ marker, code: exampleOf(marker) })
  })

  it('has no marker without its sample', () => {
    const markers = [...text.matchAll(/<!-- (examples\/\S+) -->/g)].map(match => match[1])
    expect(samplesOf(text).map(({ marker }) => marker)).toEqual(markers)
  })

  it('has one title, and skips no level of headings', () => {
    const levels = Array.from(proseOf(text).matchAll(/^(#+) /gm), ([, marks = '']) => marks.length)
    expect(levels.filter(level => level === 1)).toHaveLength(1)
    expect(levels.filter((level, index) => level > (levels[index - 1] ?? 0) + 1)).toEqual([])
  })

  it('has tables whose rows have as many cells as their head', () => {
    const tables = proseOf(text).match(/^\|.*(?:\n\|.*)+/gm) ?? []
    const cells = (row: string) => row.replaceAll('\\|', '').split('|').length
    const odd = tables.flatMap(table => {
      const [head = '', ...rows] = table.split('\n')
      return rows.filter(row => cells(row) !== cells(head))
    })
    expect(odd).toEqual([])
  })

  it('says no word twice in a row', () => {
    const said = proseOf(text).replaceAll(/`[^`]*`/g, '`')
    expect(said.match(/\b([a-z]+) \1\b/gi) ?? []).toEqual([])
  })

  it('links to what is there', () => {
    const anchors = headingsOf(text)
    const broken = linksOf(text).filter(link => {
      const [path = '', anchor] = link.split('#')
      if (path === '') return anchor === undefined || !anchors.includes(anchor)
      const target = join(root, dirname(page), path)
      if (relative(root, target).startsWith('..') || !existsSync(target)) return true
      return anchor !== undefined && !headingsOf(readFileSync(target, 'utf8')).includes(anchor)
    })
    expect(broken).toEqual([])
  })
})

describe('docs: as long as somebody reads', () => {
  /** All that has a letter or a digit in it, samples too. */
  const wordsIn = (page: string) => read(page).match(/\S*[\p{L}\p{N}]\S*/gu)?.length ?? 0
  /** Written by hand for who uses the package. */
  const forUsers = pages.filter(page => /^docs\/(?!api|design|performance|reliability)[^/]+$/.test(page))

  it('has a README of 1,500 words or fewer', () => {
    expect(wordsIn('README.md')).toBeLessThanOrEqual(1_500)
  })

  it('has pages of 12,000 words or fewer', () => {
    expect(forUsers.length).toBeGreaterThanOrEqual(7)
    expect(forUsers.reduce((sum, page) => sum + wordsIn(page), 0)).toBeLessThanOrEqual(12_000)
  })
})

describe('docs: what they say of the code', () => {
  const sources = sourceFiles('src').map(read).join('\n')
  const tables = pages.filter(page => page === 'README.md' || dirname(page) === 'docs').flatMap(rowsOf)

  it('explain every error code', () => {
    const unions = Array.from(
      sources.matchAll(/^export type \w+ErrorCode =((?:(?!^export).*\n)*)/gm),
      ([, union = '']) => union.match(/(?<=')[A-Z]+_[A-Z_]+(?=')/g) ?? [],
    )
    expect(unions.length).toBeGreaterThan(2)
    const codes = unions.flat()
    expect(codes.length).toBeGreaterThan(15)
    const isExplained = (code: string) =>
      codesExplained().includes(code) ||
      items().some(item => item.startsWith(`\`${code}\``)) ||
      tables.some(cells => cells[0]?.includes(`\`${code}\``))
    expect(codes.filter(code => !isExplained(code))).toEqual([])
  })

  it('have a section for every code of an error and of a warning, and for no other', () => {
    // Of the code alone: its comments name codes of Node.js, too.
    const [errors = ''] = /export type PostInvokeErrorCode =.*?\n\n/s.exec(read('src/post-invoke-error.ts')) ?? []
    const codes = [
      ...(errors.match(/(?<=')ERR_\w+(?=')/g) ?? []),
      ...(sources.match(/(?<=(?:code: |unexpected\()')ERR_\w+(?=')/g) ?? []),
      ...(sources.match(/(?<=warnOnce\(\s*')WARN_\w+(?=')/g) ?? []),
    ]
    expect(codes.length).toBeGreaterThan(25)
    expect(codesExplained().sort()).toEqual([...new Set(codes)].sort())
  })

  it('explain every message that can be logged or thrown', () => {
    const messages = messagesOf(root, 'src')
    expect(messages.length).toBeGreaterThan(50)
    const isExplained = (text: string) => quotes().some(quote => partsOf(quote).every(part => text.includes(part)))
    expect(messages.filter(({ text }) => !isExplained(text))).toEqual([])
  })

  it('quote messages as the sources write them', () => {
    expect(quotes().length).toBeGreaterThan(50)
    const messages = messagesOf(root, 'src').map(({ text }) => text)
    const isWritten = (quote: string) =>
      partsOf(quote).every(part => sources.includes(part) || messages.some(text => text.includes(part)))
    expect(quotes().filter(quote => !isWritten(quote))).toEqual([])
  })

  it('have a row for every environment variable', () => {
    const texts = ['src/variables.ts', 'src/hand-off/settings.ts'].map(read)
    const variables = [...new Set(texts.join('\n').match(/POST_INVOKE_\w+/g))]
    expect(variables).toEqual(expect.arrayContaining(['POST_INVOKE_COMPANION', 'POST_INVOKE_SPOOL']))
    expect(variables.filter(variable => !tables.some(([name]) => name === `\`${variable}\``))).toEqual([])
  })

  it('have a row for every option', () => {
    const options = [
      ...optionsOf(read('src/middleware/options.ts'), 'Options'),
      ...optionsOf(read('src/middleware/defer-input.ts'), 'DeferOptions'),
    ]
    expect(options.length).toBeGreaterThan(6)
    expect(options.filter(option => !tables.some(([name]) => name === `\`${option}?\``))).toEqual([])
  })
})

/** The headings of docs/troubleshooting.md that are codes. */
function codesExplained(): string[] {
  return read('docs/troubleshooting.md').match(/(?<=^### )(ERR|WARN)_\w+$/gm) ?? []
}

/** Of each item of a list of docs/troubleshooting.md what stands before its explanation: messages, and some codes. */
function items(): string[] {
  return Array.from(read('docs/troubleshooting.md').matchAll(/^- ((?:`[^`]+`[^`:]*)+): /gm), ([, item = '']) => item)
}

/** The messages among them: more than two words between backticks. */
function quotes(): string[] {
  return items()
    .flatMap(item => item.match(/`[^`]+`/g) ?? [])
    .map(quote => quote.slice(1, -1))
    .filter(quote => (quote.match(/\b[a-z']+\b/gi) ?? []).length > 2)
}

/** What stands between the placeholders of a message. */
function partsOf(quote: string): string[] {
  const parts = quote.split('…').map(part => part.trim())
  return parts.filter(part => part !== '')
}

/** The cells of all tables of a page. */
function rowsOf(page: string): string[][] {
  return rowsIn(read(page))
}

function rowsIn(markdown: string): string[][] {
  return markdown
    .split('\n')
    .filter(line => line.startsWith('| '))
    .map(line => line.slice(2, -2).split(' | '))
}

type Sample = { readonly marker: string | undefined; readonly code: string }

/** Each block of TypeScript, with the example that the comment before it names. */
function samplesOf(markdown: string): Sample[] {
  const blocks = markdown.matchAll(
    /(?:<!-- (examples\/\S+) -->\n)?^```(?:ts|typescript|js|javascript|mjs)\n(.*?)^```$/gms,
  )
  return [...blocks].map(([, marker, code = '']) => ({ marker, code }))
}

/** `path`: the whole file. `path#region`: what stands between `// #region region` and `// #endregion`, unindented. */
function exampleOf(marker: string): string {
  const [path = '', region] = marker.split('#')
  const text = read(path)
  if (region === undefined) return text
  const match = new RegExp(`^( *)// #region ${region}\n(.*?)^ *// #endregion$`, 'ms').exec(text)
  if (!match) throw new Error(`Expected ${path} to have a region ${region}`)
  const [, indent = '', code = ''] = match
  return code.replaceAll(new RegExp(`^${indent}`, 'gm'), '')
}

/** Without its blocks of code. */
function proseOf(markdown: string): string {
  return markdown.replaceAll(/^```.*?^```$/gms, '')
}

function linksOf(markdown: string): string[] {
  return [...proseOf(markdown).matchAll(/\]\(([^)\s]+)\)/g)]
    .map(match => match[1] ?? '')
    .filter(link => !/^[a-z]+:/.test(link))
}

/** The anchors that GitHub gives headings. */
function headingsOf(markdown: string): string[] {
  return [...proseOf(markdown).matchAll(/^#+ (.+)$/gm)].map(match =>
    (match[1] ?? '')
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  )
}

function optionsOf(source: string, type: string): string[] {
  const [, body = ''] = new RegExp(`export type ${type} = \\{(.*?)\n\\}`, 's').exec(source) ?? []
  return [...body.matchAll(/^ {2}(\w+)\?:/gm)].map(match => match[1] ?? '')
}

function markdownFiles(folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap(entry => {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) return /^(\.|node_modules$|dist$|coverage$)/.test(entry.name) ? [] : markdownFiles(path)
    return entry.name.endsWith('.md') ? [path] : []
  })
}

function sourceFiles(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .map(name => join(folder, name))
    .filter(path => statSync(join(root, path)).isFile())
}
