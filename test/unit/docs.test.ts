// The documentation says what the code is: its samples are files that are compiled, its links lead somewhere, and the
// messages that it explains are those of the sources.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from '@jest/globals'

const root = fileURLToPath(new URL('../..', import.meta.url))
const read = (path: string) => readFileSync(join(root, path), 'utf8')

const pages = ['README.md', 'CHANGELOG.md', ...markdownFiles('docs')]

describe.each(pages)('docs: %s', page => {
  const text = read(page)

  it('has no TypeScript that is not a file of examples/', () => {
    const samples = samplesOf(text)
    expect(samples.filter(({ marker }) => marker === undefined)).toEqual([])
    for (const { marker = '', code } of samples) expect({ marker, code }).toEqual({ marker, code: exampleOf(marker) })
  })

  it('has no marker without its sample', () => {
    const markers = [...text.matchAll(/<!-- (examples\/\S+) -->/g)].map(match => match[1])
    expect(samplesOf(text).map(({ marker }) => marker)).toEqual(markers)
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

describe('docs: what README.md says of the code', () => {
  const readme = read('README.md')
  const sources = sourceFiles('src').map(read).join('\n')

  it('explains every error code', () => {
    const codes = [...new Set(read('src/errors.ts').match(/(?<=\| ')ERR_\w+(?=')/g))]
    expect(codes.length).toBeGreaterThan(0)
    expect(codes.filter(code => !readme.includes(`\`${code}\``))).toEqual([])
  })

  it('names every environment variable', () => {
    const variables = [...new Set(read('src/variables.ts').match(/POST_INVOKE_\w+/g))]
    expect(variables.length).toBeGreaterThan(0)
    expect(variables.filter(variable => !readme.includes(`| \`${variable}\` |`))).toEqual([])
  })

  it('has a row for every option', () => {
    const options = [
      ...optionsOf(read('src/middleware/post-invoke.ts'), 'Options'),
      ...optionsOf(read('src/middleware/task.ts'), 'DeferOptions'),
    ]
    expect(options.length).toBeGreaterThan(6)
    expect(options.filter(option => !readme.includes(`| \`${option}\` |`))).toEqual([])
  })

  it('quotes messages as the sources write them', () => {
    const [, troubleshooting = ''] = /\n## Troubleshooting\n(.*?)\n## /s.exec(readme) ?? []
    const rows = troubleshooting.split('\n').filter(row => row.startsWith('| `') && !row.startsWith('| `TypeError`'))
    const quotes = rows.flatMap(row => {
      const cells = row.split(' | ')
      const cell = cells[0]?.startsWith('| `ERR_') ? cells[1] : cells[0]
      return [...(cell ?? '').matchAll(/`([^`]+)`/g)].map(match => match[1] ?? '')
    })
    expect(quotes.length).toBeGreaterThan(20)
    const isWritten = (quote: string) => quote.split('…').every(part => sources.includes(part.trim()))
    expect(quotes.filter(quote => !isWritten(quote))).toEqual([])
  })
})

type Sample = { readonly marker: string | undefined; readonly code: string }

/** Each block of TypeScript, with the example that the comment before it names. */
function samplesOf(markdown: string): Sample[] {
  const blocks = markdown.matchAll(/(?:<!-- (examples\/\S+) -->\n)?^```(?:ts|typescript)\n(.*?)^```$/gms)
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

function linksOf(markdown: string): string[] {
  const prose = markdown.replaceAll(/^```.*?^```$/gms, '')
  return [...prose.matchAll(/\]\(([^)\s]+)\)/g)].map(match => match[1] ?? '').filter(link => !/^[a-z]+:/.test(link))
}

/** The anchors that GitHub gives headings. */
function headingsOf(markdown: string): string[] {
  const prose = markdown.replaceAll(/^```.*?^```$/gms, '')
  return [...prose.matchAll(/^#+ (.+)$/gm)].map(match =>
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
  return readdirSync(join(root, folder))
    .filter(name => name.endsWith('.md'))
    .map(name => join(folder, name))
}

function sourceFiles(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .map(name => join(folder, name))
    .filter(path => statSync(join(root, path)).isFile())
}
