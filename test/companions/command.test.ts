import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from '@jest/globals'
import { describeCommand } from '../support/command-suite.ts'
import { layer } from '../support/run.ts'
import { builtInClient } from '../support/runtime-clients.ts'
import { useSandboxes } from '../support/sandboxes.ts'

describeCommand(builtInClient)

describe('a command without Node.js', () => {
  const start = useSandboxes()

  it('fails init, and says why', async () => {
    // An environment in which bash is all there is.
    const folder = mkdtempSync(join(tmpdir(), 'post-invoke-no-node-'))
    try {
      mkdirSync(join(folder, 'bin'))
      chmodSync(folder, 0o755)
      symlinkSync('/bin/bash', join(folder, 'bin', 'bash'))
      const environment = { PATH: join(folder, 'bin'), POST_INVOKE_COMMAND: 'true' }
      await expect(start({ layers: [layer], environment })).rejects.toMatchObject({
        code: 'INIT_FAILED',
        message: expect.stringContaining('POST_INVOKE_COMMAND needs Node.js, and there is none on PATH'),
      })
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  })
})
