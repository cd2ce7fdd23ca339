// Handed-off work where the function has not imported what runs it.
import { describe, expect, it } from '@jest/globals'
import { startHandOff } from '../support/hand-off-suite.ts'
import { eventually } from '../support/run.ts'
import { builtInClient } from '../support/runtime-clients.ts'

const environment = { HAND_OFF_WITHOUT_RUNNER: '1' }

describe('without an import of what runs handed-off work', () => {
  it('the layer runs it', async () => {
    await using run = await startHandOff({ client: builtInClient, companion: 'layer', environment })
    expect((await run.invoke({ work: [[{ url: run.target.url }]] })).status).toBe('success')
    await eventually(() => run.target.received.length === 1, 'the request has come')
  })

  it.each(['internal', 'gate'] as const)('the function fails as it starts (%s)', async companion => {
    const starting = startHandOff({ client: builtInClient, companion, environment })
    await expect(starting).rejects.toThrow(
      /Expected the layer, or an import of middy-post-invoke\/hand-off\/embedded, to run handed-off work, got neither/,
    )
  })
})
