// The handlers without Middy of docs/recipes.md are not only compiled: each runs in the sandbox, with the event of an API Gateway.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from '@jest/globals'
import { root } from '../package/packed.ts'
import { startRun } from '../support/run.ts'
import { builtInClient } from '../support/runtime-clients.ts'

const folder = join(root, 'examples', 'frameworks')
const event = JSON.parse(readFileSync(join(root, 'examples', 'api-gateway', 'event.json'), 'utf8'))

describe('examples/frameworks', () => {
  it.each(readdirSync(folder))('%s answers, and its tasks do not fail', async name => {
    const started = await startRun({
      client: builtInClient,
      taskRoot: folder,
      handler: name.replace('.ts', '.handler'),
      timeout: 30_000,
    })
    await using sandbox = started.sandbox
    const report = await sandbox.invoke(event)
    expect(report).toMatchObject({ kind: 'response', status: 'success' })
    if (name === 'streamed.ts') expect(report).toMatchObject({ streamed: true, payload: 'one\ntwo\n' })
    else expect(report.body()).toMatchObject({ statusCode: 201 })
    expect(started.logged('')).toEqual([])
  })
})
