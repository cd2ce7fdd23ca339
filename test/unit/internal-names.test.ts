// The members that the build gives short names: none may be one that somebody else reads.
import { readFileSync } from 'node:fs'
import { builtinModules } from 'node:module'
import { describe, expect, it } from '@jest/globals'
import { build } from 'esbuild'
import { internalNames, names } from '../../scripts/internal-names.ts'

const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8')

/** Every member of what Node.js itself has: its globals, its modules, and what these make. */
const membersOfNode = (): Set<string> => {
  const found = new Set<string>()
  const seen = new Set<unknown>()
  const look = (value: any, depth: number) => {
    if (value === null || (typeof value !== 'object' && typeof value !== 'function') || seen.has(value)) return
    seen.add(value)
    for (const [name, { value: member }] of Object.entries(Object.getOwnPropertyDescriptors(value))) {
      found.add(name)
      if (depth > 0) look(member, depth - 1)
    }
    look(Object.getPrototypeOf(value), depth)
  }
  look(globalThis, 4)
  for (const name of builtinModules) {
    if (!name.startsWith('_')) look(process.getBuiltinModule(name), 4)
  }
  return found
}

describe('the members that the build shortens', () => {
  it('are none of Node.js', () => {
    const members = membersOfNode()
    expect([...members]).toEqual(expect.arrayContaining(['unref', 'runInAsyncScope', 'hasSubscribers', 'writeSync']))
    expect(names.filter(name => members.has(name))).toEqual([])
  })

  it('are none of the public API, and none of what the companion, a log line or a channel is told', () => {
    const pages = ['docs/api.md', 'src/middleware/channels.ts', 'src/log.ts', 'src/hand-off/entry.ts'].map(read)
    // Words of comments apart.
    const members: string[] = pages.join('\n').match(/(?<=[`.]|readonly |^ +)\w+(?=\??[:(`])/gm) ?? []
    expect(members).toEqual(expect.arrayContaining(['defer', 'awsRequestId', 'warnOnce', 'signal', 'onTaskError']))
    expect(names.filter(name => members.includes(name))).toEqual([])
  })

  it('are none of what is made for libraries', () => {
    const files = ['src/middleware/vercel-context.ts', 'src/middleware/execution-context.ts'].map(read)
    const members: string[] = files.join('\n').match(/(?<=^ +|[{,] )\w+(?=: )/gm) ?? []
    expect(members).toEqual(expect.arrayContaining(['waitUntil', 'deadline', 'props']))
    expect(names.filter(name => members.includes(name))).toEqual([])
  })

  it('have names of their own', () => {
    const short = Object.values(internalNames.mangleCache)
    expect(new Set(short).size).toBe(names.length)
    expect(short.filter(name => !/^_\w{1,2}$/.test(name))).toEqual([])
  })

  it('are all there, and those alone are shortened', async () => {
    const { outputFiles, mangleCache = {} } = await build({
      entryPoints: ['src/index.ts', 'src/hand-off/index.ts', 'src/testing/index.ts'],
      bundle: true,
      write: false,
      outdir: 'out',
      platform: 'node',
      format: 'esm',
      loader: { '.sh': 'text' },
      external: ['*/runner.cjs'],
      mangleProps: internalNames.mangleProps,
      mangleCache: {},
    })
    expect(outputFiles).toHaveLength(3)
    expect(Object.keys(mangleCache).sort()).toEqual([...names].sort())
  })
})
