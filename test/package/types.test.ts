// `npx tsc` compiles test/types. Here is the proof that it would notice.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from '@jest/globals'
import { bin, copyOf, makeFolder, root, run } from './packed.ts'

const files = readdirSync(join(root, 'test', 'types')).filter(name => name !== 'expect.ts')

/** The errors of test/types, with each line of it changed by `change`, as `file:line`. */
const errorsOf = async (change: (line: string) => string) => {
  using folder = makeFolder()
  copyOf(folder.path, ['package.json', 'src', 'test/types', 'tsconfig.json'])
  const changed: string[] = []
  for (const name of files) {
    const path = join(folder.path, 'test', 'types', name)
    const lines = readFileSync(path, 'utf8').split('\n')
    const written = lines.map(change)
    written.forEach((line, index) => {
      if (line !== lines[index]) changed.push(`${name}:${index + 1}`)
    })
    writeFileSync(path, written.join('\n'))
  }
  const { stdout } = await run(bin('tsc'), ['--pretty', 'false'], { cwd: folder.path })
  const errors = Array.from(stdout.matchAll(/^test\/types\/([^(]+)\((\d+),\d+\): error TS(\d+)/gm))
  return {
    changed,
    errors: errors.map(([, name, line, code]) => ({ at: `${name}:${line}`, code: Number(code) })),
    stdout,
  }
}

describe('the tests of types', () => {
  it('compile as they are', async () => {
    const { errors, stdout } = await errorsOf(line => line)
    expect([errors, stdout]).toEqual([[], ''])
  })

  it('have an error at each line that is said to have one', async () => {
    const { changed, errors } = await errorsOf(line => line.replace(/\/\/ @ts-expect-error.*/, '//'))
    expect(changed.length).toBeGreaterThan(30)
    const nextLine = (at: string) => at.replace(/\d+$/, line => String(Number(line) + 1))
    expect([...new Set(errors.map(({ at }) => at))].sort()).toEqual(changed.map(nextLine).sort())
    // Errors of types, not of grammar.
    expect(errors.filter(({ code }) => code < 2_000)).toEqual([])
  })

  it('notice each type that is not what they say', async () => {
    const { changed, errors } = await errorsOf(line =>
      line.replace(/check<Same<(.+)>>\(\)/, (_, types: string) => {
        const [first, second] = splitAtComma(types)
        return `check<Same<${first}, [${second}]>>()`
      }),
    )
    expect(changed.length).toBeGreaterThan(20)
    expect(changed.filter(at => !errors.some(error => error.at === at))).toEqual([])
    expect(errors.filter(({ code }) => code !== 2344)).toEqual([]) // '… does not satisfy the constraint'
  })
})

/** The two arguments of `Same`: at the comma that is inside no other brackets. */
const splitAtComma = (types: string): [string, string] => {
  let depth = 0
  for (const [index, character] of Array.from(types).entries()) {
    if ('<[{('.includes(character)) depth++
    else if ('>]})'.includes(character)) depth--
    else if (character === ',' && depth === 0) return [types.slice(0, index), types.slice(index + 1).trim()]
  }
  throw new Error(`There are no two types in ${types}`)
}
