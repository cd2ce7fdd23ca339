// The test kit in a project that has the package installed: examples/testing under each test runner, from the tarball.
import { cpSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { install, makeFolder, root, run } from '../package/packed.ts'

const TEST_MS = 120_000

const project = makeFolder()
beforeAll(async () => {
  await install(project.path)
  cpSync(join(root, 'examples', 'testing'), project.path, { recursive: true })
  for (const name of ['jest', '@jest/globals', '@swc/jest', '@swc/core', 'vitest']) {
    mkdirSync(dirname(join(project.path, 'node_modules', name)), { recursive: true })
    symlinkSync(join(root, 'node_modules', name), join(project.path, 'node_modules', name))
  }
}, TEST_MS)
afterAll(() => project[Symbol.dispose]())

const jest = (config: string, ...flags: string[]) => [
  ...flags,
  ...['node_modules/jest/bin/jest.js', '--rootDir', '.', '--config', config],
]
const vitest = ['node_modules/vitest/vitest.mjs', 'run', '--root', '.', '--dir', '.']

const runners = [
  ['jest, with ES modules', [...jest('jest.config.js', '--experimental-vm-modules')], /Tests: +5 passed, 5 total/],
  ['jest, transformed to CommonJS', jest('jest-commonjs.config.cjs'), /Tests: +5 passed, 5 total/],
  ['vitest', [...vitest, 'vitest.test.ts'], /Tests +5 passed \(5\)/],
  ['node:test', ['--test', '--test-reporter=tap', 'node.test.ts'], /# pass 5\n# fail 0/],
] as const

/** A test that fails, to see that the runner tells. */
const failing = (imports: string) => `${imports}
import { invoke } from 'middy-post-invoke/testing'
import { handler, mailer } from './orders.ts'

test('fails', async () => {
  mailer.send = async () => {
    throw new Error('no server')
  }
  await invoke(handler, { email: '' })
})
`

// The runner that runs this test must not be heard by the one that it starts.
const env = () => {
  const { JEST_WORKER_ID: _, NODE_OPTIONS: __, NODE_TEST_CONTEXT: ___, ...rest } = process.env
  return { ...rest, NO_COLOR: '1', FORCE_COLOR: '0', CI: '1' }
}

describe('examples/testing', () => {
  it.each(runners)(
    'passes under %s',
    async (_, args, expected) => {
      const { code, stdout, stderr } = await run(process.execPath, args, { cwd: project.path, env: env() })
      expect(stdout + stderr).toMatch(expected)
      expect(code).toBe(0)
    },
    TEST_MS,
  )

  it.each([
    ['jest, with ES modules', "import { test } from '@jest/globals'", 'jest.test.ts', runners[0][1]],
    ['vitest', "import { test } from 'vitest'", 'vitest.test.ts', runners[2][1]],
    ['node:test', "import { test } from 'node:test'", 'node.test.ts', runners[3][1]],
  ] as const)(
    'would fail with a task that fails: %s',
    async (_, imports, name, args) => {
      writeFileSync(join(project.path, name), failing(imports))
      const { code, stdout, stderr } = await run(process.execPath, args, { cwd: project.path, env: env() })
      expect(stdout + stderr).toContain('task "mail" failed: no server')
      expect(code).not.toBe(0)
    },
    TEST_MS,
  )
})
