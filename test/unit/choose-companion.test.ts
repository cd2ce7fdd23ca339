import { describe, expect, it } from '@jest/globals'
import { type CompanionChoice, chooseCompanion } from '../../src/extension/choose-companion.ts'
import type { CompanionMode } from '../../src/variables.ts'
import { recordLog, turns } from './helpers.ts'

const NOBODY = '127.0.0.1:1' // where no Extensions API answers
let count = 0

const choose = (choice: Partial<CompanionChoice>) => {
  const log = recordLog()
  const companion = chooseCompanion({
    mode: 'auto',
    log,
    gate: { available: false },
    isMainThread: true,
    fileExists: () => false,
    ...choice,
    variables: {
      AWS_LAMBDA_RUNTIME_API: NOBODY,
      POST_INVOKE_SOCKET: `/tmp/post-invoke-choose-${process.pid}-${++count}`,
      ...choice.variables,
    },
  })
  return { companion, log, kind: companion.kind, holds: (gated = false) => companion.holds({ gated }) }
}

const modes: CompanionMode[] = ['auto', 'layer', 'embedded', 'internal', 'off']
const gate = { available: true } as const
const layerFile = (path: string) => path === '/opt/extensions/post-invoke'

describe('nothing to hold', () => {
  it.each(modes)('outside Lambda, whatever the mode is: %s', mode => {
    const log = recordLog()
    const companion = chooseCompanion({ mode, log, gate, isMainThread: true, fileExists: () => true, variables: {} })
    expect([companion.kind, companion.holds({ gated: false }), companion.ready()]).toEqual(['none', true, undefined])
    expect(log.lines).toEqual([])
  })

  it.each(modes)('on Managed Instances, whatever the mode is: %s', mode => {
    const { kind, holds, log } = choose({
      mode,
      gate,
      fileExists: () => true,
      variables: { AWS_LAMBDA_MAX_CONCURRENCY: '8' },
    })
    expect([kind, holds()]).toEqual(['none', true])
    expect(log.lines).toEqual([])
  })
})

describe('no companion', () => {
  it('when switched off, which needs no warning', () => {
    const { kind, holds, log } = choose({ mode: 'off', gate, fileExists: () => true })
    expect([kind, holds(true)]).toEqual(['none', false])
    expect(log.lines).toEqual([])
  })

  it('in a worker thread', () => {
    const { kind, holds } = choose({ isMainThread: false, gate, fileExists: () => true })
    expect([kind, holds(true)]).toEqual(['none', false])
  })

  it.each(['auto', 'embedded', 'internal'] as const)('when registration fails, with one warning: %s', mode => {
    const { kind, holds, log } = choose({ mode })
    expect([kind, holds()]).toEqual(['none', false])
    expect(log.lines).toEqual([
      {
        level: 'warn',
        message:
          'no internal extension could be registered (no answer): withoutCompanion applies (by default tasks are awaited before the answer)',
      },
    ])
  })
})

describe('the layer', () => {
  it.each<[string, Partial<CompanionChoice>]>([
    ['when its file is there', { fileExists: layerFile }],
    ['when its file is there, rather than the gate', { fileExists: layerFile, gate }],
    ['when it is asked for, though its file is not there', { mode: 'layer' }],
  ])('%s', async (_, choice) => {
    expect(choose(choice).kind).toBe('layer')
    await turns(3)
  })

  it.each(['embedded', 'internal'] as const)('is left alone where %s is asked for', mode => {
    expect(choose({ mode, fileExists: layerFile, gate }).kind).not.toBe('layer')
  })
})

describe('the gate', () => {
  it.each(['auto', 'embedded'] as const)('%s, where the client has one', mode => {
    const { kind, holds, log } = choose({ mode, gate })
    expect([kind, holds(true)]).toEqual(['gate', true])
    expect(log.lines).toEqual([])
  })

  it('does not hold an invocation that does not go through it, which is said once', () => {
    const { holds, log } = choose({ gate })
    expect([holds(false), holds(false), holds(true)]).toEqual([false, false, true])
    expect(log.lines).toEqual([
      {
        level: 'warn',
        message: expect.stringMatching(
          /^this invocation runs outside InvokeStore\.run, .*POST_INVOKE_COMPANION=internal/,
        ),
      },
    ])
  })

  it('is not used where the internal extension is asked for', () => {
    expect(choose({ mode: 'internal', gate }).kind).not.toBe('gate')
  })

  it.each([
    ['embedded', 1],
    ['internal', 0],
  ] as const)('that should be there and is not is said, where it was wanted: %s', (mode, expected) => {
    const { log } = choose({ mode, gate: { available: false, anomaly: 'something is odd' } })
    expect(log.of('warn').filter(message => message.startsWith('something is odd; '))).toHaveLength(expected)
  })
})
