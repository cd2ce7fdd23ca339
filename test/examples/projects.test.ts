// What holds for every project in examples/.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from '@jest/globals'
import { bin, root, run } from '../package/packed.ts'
import { project, projects, TOOL_MS } from './project.ts'

const read = (path: string) => readFileSync(join(root, path), 'utf8')

describe.each(projects)('examples/%s', name => {
  it(
    'has types that are right, with its own dependencies',
    async () => {
      const { code, stdout } = await run(bin('tsc'), ['--project', project(name).path('.')], { timeout: TOOL_MS })
      expect({ code, stdout }).toEqual({ code: 0, stdout: '' })
    },
    TOOL_MS,
  )

  it('is left to its own compiler, and listed in the README', () => {
    expect(JSON.parse(read('tsconfig.json')).exclude).toContain(`examples/${name}`)
    expect(read('README.md')).toContain(`](examples/${name})`)
  })

  it('has a lock file that names no registry', () => {
    const { packages } = JSON.parse(read(`examples/${name}/package-lock.json`))
    const resolved = Object.values<{ resolved?: string }>(packages).flatMap(entry => entry.resolved ?? [])
    expect(resolved).toEqual(['../..'])
  })
})

it('examples that differ only in how they are deployed have one handler', () => {
  const handlers = projects
    .filter(name => existsSync(join(root, 'examples', name, 'handler.ts')))
    .map(name => read(`examples/${name}/handler.ts`))
    .filter(text => text.includes('POST /orders'))
  expect(handlers.length).toBeGreaterThan(0)
  expect(new Set(handlers).size).toBe(1)
})
