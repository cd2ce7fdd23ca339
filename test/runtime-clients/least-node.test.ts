// On exactly the Node.js that package.json asks for: handed-off requests and jobs, each companion, and the command line.
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from '@jest/globals'
import { isAtLeast } from '../../src/cli/checks.ts'
import { postInvoke, root } from '../support/command-line.ts'
import { startHandOff } from '../support/hand-off-suite.ts'
import { onNode, realClient } from '../support/require-runtime-clients.ts'

const { POST_INVOKE_TEST_LEAST_NODE: node = '' } = process.env
const { engines } = JSON.parse(readFileSync(`${root}/package.json`, 'utf8'))
const least = engines.node.replace('>=', '')

it('is that version', () => {
  // It has no default: what is meant to run on it would run on another one.
  if (node === '') throw new Error('Expected POST_INVOKE_TEST_LEAST_NODE. Run `bash scripts/install-test-runtimes.sh`.')
  expect(execFileSync(node, ['--version'], { encoding: 'utf8' }).trim()).toBe(`v${least}`)
})

describe.each([
  ['ric3', 'internal'],
  ['ric3', 'layer'],
  ['ric4', 'gate'],
  ['ric4', 'internal'],
  ['ric4', 'layer'],
] as const)('%s, %s', (kind, companion) => {
  it('runs deferred tasks, handed-off requests and jobs', async () => {
    await using run = await startHandOff({ client: onNode(node, realClient(kind)), companion, freeze: true })
    for (let count = 1; count <= 2; count++) {
      const report = await run.invoke({ sleeps: 5, work: [[{ url: run.target.url, body: 'x' }], ['note']] })
      expect(report).toMatchObject({ status: 'success', timedOut: false })
      expect(run.target.received).toHaveLength(count)
      expect(run.marks(report.requestId).map(({ what }) => what)).toEqual(['slept', 'job'])
    }
    expect([...run.logged('WARN'), ...run.logged('ERROR')]).toEqual([])
  })
})

describe('the command line', () => {
  const example = fileURLToPath(new URL('../../examples/api-gateway/handler.ts', import.meta.url))

  it('finds this version sufficient', async () => {
    const { stdout } = await postInvoke(root, ['doctor', example, '--json'], { node })
    const check = JSON.parse(stdout).checks.find(({ id }: { id: string }) => id === 'node')
    expect(check).toMatchObject({ status: 'ok', message: `Node.js ${least}` })
  })

  it('and none before it', () => {
    const [major, minor] = least.split('.').map(Number)
    expect(isAtLeast(`${major}.${minor - 1}.9`, least)).toBe(false)
  })

  it('runs a TypeScript handler', async () => {
    const event = fileURLToPath(new URL('../../examples/api-gateway/event.json', import.meta.url))
    const { stdout } = await postInvoke(root, ['invoke', example, '--event', event, '--layer', '--json'], { node })
    expect(JSON.parse(stdout).failures).toEqual([])
  })
})
