// The pages that are written from docs/evidence say what stands there, and are short enough to be read.
import { readFileSync } from 'node:fs'
import { describe, expect, it } from '@jest/globals'
import { summarize } from '../../bench/summary.ts'
import { readMatrix, toMatrix } from '../support/fault-table.ts'

const read = (name: string) => readFileSync(new URL(`../../docs/${name}`, import.meta.url), 'utf8')

const MAX_LINES = 60

describe('docs/performance.md', () => {
  const files = Object.entries(summarize(read('evidence/performance.md')))

  it('comes with three pictures', () => {
    expect(files.map(([name]) => name.split('.').at(-1))).toEqual(['md', 'svg', 'svg', 'svg'])
  })

  it.each(files)('%s is what the evidence says: otherwise run `node bench/summary.ts`', (name, text) => {
    expect(read(name)).toBe(text)
  })

  it('has each of its ten figures', () => {
    const rows = read('performance.md')
      .split('\n')
      .filter(line => line.startsWith('| '))
    expect(rows).toHaveLength(11)
    expect(rows.filter(row => row.includes(' – |'))).toEqual([])
  })

  it('draws what is left of a run that has measured less, and more', () => {
    const evidence = read('evidence/performance.md')
      .replace(/^\| RIC 4, layer, 1 task \|.*\n/m, '')
      .replace(/^(\| RIC 4, gate, 1 task) \| .*\n/m, '$&| RIC 4, a new floor, 1 task | 0.5 | 1 | 1 | 1 |\n')
    const { 'performance-answer.svg': picture, 'performance.md': page } = summarize(evidence)
    expect(picture).toContain('a new floor')
    expect(picture).not.toContain('middy-post-invoke, layer')
    expect(page).toContain('over plain Middy: layer | – |')
  })
})

describe('docs/reliability.md', () => {
  it('is what the evidence says: otherwise run the tests of faults with POST_INVOKE_WRITE_DOCS=1', () => {
    expect(readMatrix()).toBe(toMatrix())
  })
})

it.each(['performance.md', 'reliability.md'])('docs/%s is short', name => {
  expect(read(name).split('\n').length).toBeLessThanOrEqual(MAX_LINES)
})
