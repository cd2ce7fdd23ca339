// Who imports whom in src/, types included: no circle between files or between folders, and what a user's bundle carries
// apart from what the layer carries.
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from '@jest/globals'
import { parseSync } from '@swc/core'

const src = fileURLToPath(new URL('../../src', import.meta.url))
const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter(name => name.endsWith('.ts'))

type Graph = ReadonlyMap<string, ReadonlySet<string>>
type Node = { readonly type: string; readonly [key: string]: any }

/** What a module imports by a relative path, by `import`, `export … from`, `import()` or in a type. */
const importsOf = (file: string): Set<string> => {
  const found = new Set<string>()
  const add = (source: unknown) => {
    if (typeof source === 'string' && source.startsWith('.')) {
      found.add(normalize(join(dirname(file), source.replace(/\?text$/, '')))) // bundled as text
    }
  }
  const visit = (node: Node | null): void => {
    if (node === null || typeof node !== 'object') return
    if (node.source?.type === 'StringLiteral') add(node.source.value)
    if (node.type === 'CallExpression' && node.callee.type === 'Import') add(node.arguments[0]?.expression.value)
    if (node.type === 'TsImportType') add(node.argument.value)
    for (const value of Object.values(node)) Array.isArray(value) ? value.forEach(visit) : visit(value)
  }
  visit(parseSync(readFileSync(join(src, file), 'utf8'), { syntax: 'typescript' }) as unknown as Node)
  return found
}

const graph: Graph = new Map(files.map(file => [file, importsOf(file)]))

/** A file at the top is a folder of its own: it is one entry, or what all share. */
const folderOf = (file: string) => (file.includes('/') ? dirname(file).split('/')[0] : file) as string

const folders: Graph = (() => {
  const made = new Map<string, Set<string>>()
  for (const [file, imported] of graph) {
    const from = folderOf(file)
    const to = made.get(from) ?? new Set()
    // The script is text, which the build puts wherever it is named: nothing is carried along with it.
    for (const other of imported) if (folderOf(other) !== from && !other.endsWith('.sh')) to.add(folderOf(other))
    made.set(from, to)
  }
  return made
})()

/** Each circle as the path that leads back to its beginning. */
const circlesIn = (graph: Graph): string[] => {
  const circles: string[] = []
  const done = new Set<string>()
  const visit = (node: string, path: readonly string[]) => {
    if (path.includes(node)) circles.push([...path.slice(path.indexOf(node)), node].join(' → '))
    else if (!done.has(node)) {
      for (const next of graph.get(node) ?? []) visit(next, [...path, node])
      done.add(node)
    }
  }
  for (const node of graph.keys()) visit(node, [])
  return circles
}

describe('imports', () => {
  it('are all seen', () => {
    expect(importsOf('middleware/companion-pipe.ts')).toEqual(
      new Set(['built-in.ts', 'extension/post-invoke.sh', 'log.ts', 'middleware/waits.ts']),
    )
    expect([...(graph.get('middleware/invocation.ts') ?? [])]).toContain('middleware/companion-process.ts') // a type's
    const imported = [...graph.values()].flatMap(names => [...names])
    expect(imported.filter(name => !graph.has(name))).toEqual(['extension/post-invoke.sh'])
  })

  it('make no circle between files', () => {
    expect(circlesIn(graph)).toEqual([])
  })

  it('make no circle between folders', () => {
    expect(circlesIn(folders)).toEqual([])
  })

  it('are found where they make one', () => {
    expect(circlesIn(new Map(Object.entries({ a: new Set(['b']), b: new Set(['c']), c: new Set(['b']) })))).toEqual([
      'b → c → b',
    ])
  })

  it('of the middleware reach nothing of the layer but the text of the script, and of the layer nothing of it', () => {
    const between = (from: string, to: string) =>
      [...graph].flatMap(([file, imported]) =>
        folderOf(file) === from ? [...imported].filter(name => folderOf(name) === to) : [],
      )
    expect(between('middleware', 'extension')).toEqual(['extension/post-invoke.sh'])
    expect(between('extension', 'middleware')).toEqual([])
  })
})
