// No shell script has a fault that ShellCheck knows.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it } from '@jest/globals'
import { pythonTools } from './project.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

it.each(['src/extension/post-invoke.sh', 'scripts/install-test-runtimes.sh', 'scripts/try-middy.sh', '.ci/run'])(
  '%s',
  file => {
    const { status, stdout, stderr } = spawnSync(
      join(pythonTools(), 'bin', 'shellcheck'),
      ['--external-sources', file],
      {
        cwd: root,
        encoding: 'utf8',
        timeout: 60_000,
      },
    )
    expect({ stdout, stderr, status }).toEqual({ stdout: '', stderr: '', status: 0 })
  },
)
