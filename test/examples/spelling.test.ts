// No word of the documentation, of the docstrings or of a message is misspelled, as far as codespell knows.
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, it } from '@jest/globals'
import { pythonTools } from './project.ts'

/** What tools have made, and what is no text. */
const skipped = ['node_modules', 'dist', 'cdk.out', '.serverless', '.esbuild', '.output'].map(folder => `*/${folder}`)

const root = fileURLToPath(new URL('../..', import.meta.url))

it('has no misspelled words', () => {
  const { status, stdout, stderr } = spawnSync(
    'python3',
    [
      ...['-m', 'codespell_lib', '--ignore-words-list', 'retryin', '--skip', [...skipped, '*.svg', '*.json'].join()],
      ...['README.md', 'CHANGELOG.md', 'docs', 'examples', 'src', 'scripts'],
    ],
    { cwd: root, encoding: 'utf8', env: { ...process.env, PYTHONPATH: pythonTools() }, timeout: 60_000 },
  )
  expect({ misspelled: stdout.split('\n').filter(Boolean), stderr, status }).toEqual({
    misspelled: [],
    stderr: '',
    status: 0,
  })
})
