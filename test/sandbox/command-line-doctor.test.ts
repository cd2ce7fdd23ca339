// `post-invoke doctor` on handlers of somebody else's project.
import { appendFileSync, existsSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from '@jest/globals'
import { type Ended, embeddedCompanion, postInvoke, useProjects } from '../support/command-line.ts'

const makeProject = useProjects()

/** A handler that leaves a trace when it is run. */
const handler = (uses = '.use(postInvoke())') => `
import { writeFileSync } from 'node:fs'
import middy from '@middy/core'
import postInvoke from 'middy-post-invoke'
const other = () => ({ before: function otherBefore() {} })
const answers = () => ({ before: () => ({ statusCode: 401 }) })
export const handler = middy()${uses}.handler(async (event, context) => {
  writeFileSync('handler-was-run', '')
  context.defer(() => {})
  return 1
})
`

const template = (properties: string, layer = '') => `
Transform: AWS::Serverless-2016-10-31
Resources:
  ${layer}
  F:
    Type: AWS::Serverless::Function
    Properties: { Handler: handler.handler, Runtime: nodejs24.x, Timeout: 10, ${properties} }
`

const examine = async (folder: string, args: readonly string[] = []) => {
  const ended: Ended = await postInvoke(folder, ['doctor', 'handler.mjs', '--json', ...args])
  try {
    const { checks, ok } = JSON.parse(ended.stdout)
    const found = checks as { id: string; status: string; message: string }[]
    const lines = found
      .filter(({ status }) => status !== 'ok' && status !== 'info')
      .map(({ id, status }) => `${status} ${id}`)
    return { ...ended, ok, checks: found, lines }
  } catch {
    throw new Error(`Expected JSON, got ${JSON.stringify(ended)}`)
  }
}

describe('post-invoke doctor', () => {
  it.each([
    ['embedded', [], `Companion: ${embeddedCompanion}`],
    ['with the layer', ['--layer'], 'Companion: layer'],
    ['as on nodejs22.x', ['--runtime', 'nodejs22.x'], 'Companion: internal'],
    ['as on nodejs24.x', ['--runtime', 'nodejs24.x'], 'Companion: gate'],
    ['as on nodejs26.x', ['--runtime', 'nodejs26.x'], 'Companion: gate'],
  ])('finds nothing wrong with a good handler, %s, and does not run it', async (_, args, companion) => {
    const folder = makeProject({ 'handler.mjs': handler() })
    const { code, ok, lines, checks } = await examine(folder, args)
    expect({ code, ok, lines }).toEqual({ code: 0, ok: true, lines: [] })
    const messages = checks.map(({ message }) => message)
    expect(messages).toContain(companion)
    expect(messages).toContain('postInvoke() is the outermost middleware')
    expect(messages.join()).toContain('A deferred task ran after the response')
    expect(existsSync(join(folder, 'handler-was-run'))).toBe(false)
  })

  it('runs it with an event', async () => {
    const folder = makeProject({ 'handler.mjs': handler() })
    expect((await examine(folder, ['--event', '{}'])).code).toBe(0)
    expect(existsSync(join(folder, 'handler-was-run'))).toBe(true)
  })

  it.each([
    ['a middleware before ours', handler('.use(other()).use(postInvoke())'), [], ['problem outermost']],
    ['a list with one before ours', handler('.use([other(), postInvoke()])'), [], ['problem outermost']],
    [
      'one before ours that answers',
      handler('.use(answers()).use(postInvoke())'),
      [],
      ['problem outermost', 'problem hold'],
    ],
    ['no middleware', handler(''), [], ['problem middleware']],
    ['no companion', handler(), ['--env', 'POST_INVOKE_COMPANION=off'], ['problem companion', 'problem hold']],
    [
      'a margin longer than the timeout',
      handler('.use(postInvoke({ deadlineMargin: 5000 }))'),
      ['--timeout', '2'],
      ['problem timeout'],
    ],
    ['a wrong option', handler('.use(postInvoke({ ordre: 1 }))'), [], ['problem load']],
    ['a wrong variable', handler(), ['--env', 'POST_INVOKE_FOLDER=relative', '--layer'], ['problem load']],
    [
      'a handler that fails',
      `${handler()}\nexport const fails = handler.handler(async () => { throw new Error() })`,
      ['--event', '{}'],
      ['problem event'],
    ],
  ])('finds %s', async (_, text, args, expected) => {
    const { code, ok, lines } = await examine(makeProject({ 'handler.mjs': text }), args)
    expect({ code, ok, lines: lines.filter(line => line !== 'warning log') }).toEqual({
      code: 1,
      ok: false,
      lines: expected,
    })
  })

  it('tries a handler that it cannot look into, where it may run it', async () => {
    const folder = makeProject({
      'handler.mjs': handler().replace(
        'postInvoke())',
        '(({ before, after, onError }) => ({ before: r => before(r), after: r => after(r), onError: r => onError(r) }))(postInvoke()))',
      ),
    })
    const hold = async (args: string[]) => (await examine(folder, args)).checks.find(({ id }) => id === 'hold')
    expect(await hold([])).toMatchObject({ status: 'info' })
    expect(await hold(['--event', '{}'])).toMatchObject({ status: 'ok' })
  })

  it('tries a handler without Middy, where it may run it', async () => {
    const folder = makeProject({
      'handler.mjs': `
        import { withPostInvoke } from 'middy-post-invoke/handler'
        export const handler = withPostInvoke(async () => 1)`,
    })
    const { code, checks } = await examine(folder, ['--event', '{}'])
    expect([code, checks.find(({ id }) => id === 'hold')]).toEqual([0, expect.objectContaining({ status: 'ok' })])
  })

  it.each([
    ['context.callbackWaitsForEmptyEventLoop = false', []],
    ['', ['warning stream']],
  ])(
    'warns of a streamed answer on nodejs22.x, unless that does not wait for an empty event loop: %p',
    async (line, lines) => {
      const folder = makeProject({
        'handler.mjs': `
        import { withPostInvoke } from 'middy-post-invoke/handler'
        export const handler = awslambda.streamifyResponse(
          withPostInvoke(async (_event, responseStream, context) => {
            ${line}
            responseStream.end('streamed')
          }),
        )`,
      })
      expect((await examine(folder, ['--event', '{}', '--runtime', 'nodejs22.x'])).lines).toEqual(lines)
      expect((await examine(folder, ['--event', '{}', '--runtime', 'nodejs24.x'])).lines).toEqual([])
    },
  )

  it('takes timeout, variables and layer from the configuration', async () => {
    const own = 'PostInvokeLayer: { Type: AWS::Serverless::LayerVersion, Properties: { ContentUri: layer.zip } }'
    const folder = makeProject({
      'handler.mjs': handler('.use(postInvoke({ deadlineMargin: Number(process.env.MARGIN) }))'),
      'template.yaml': template('Layers: [!Ref PostInvokeLayer], Environment: { Variables: { MARGIN: 9000 } }', own),
    })
    expect((await examine(folder)).lines).toEqual(['problem layer'])
    await postInvoke(folder, ['layer', '--out', 'layer.zip'])
    const { code, lines, checks } = await examine(folder)
    expect({ code, lines }).toEqual({ code: 0, lines: [] })
    expect(checks.map(({ message }) => message)).toEqual(
      expect.arrayContaining(['template.yaml, F: nothing wrong', 'Companion: layer']),
    )
    expect((await examine(folder, ['--timeout', '8'])).lines).toEqual(['problem timeout'])
  })

  it('compares a layer that is a folder, file by file', async () => {
    const own = 'PostInvokeLayer: { Type: AWS::Serverless::LayerVersion, Properties: { ContentUri: layer } }'
    const folder = makeProject({
      'handler.mjs': handler(),
      'template.yaml': template('Layers: [!Ref PostInvokeLayer]', own),
    })
    await postInvoke(folder, ['layer', '--out', 'layer'])
    expect((await examine(folder)).lines).toEqual([])
    appendFileSync(join(folder, 'layer/post-invoke/worker.cjs'), '//')
    expect((await examine(folder)).lines).toEqual(['problem layer'])
  })

  it('prints what it found for people, without colours in a pipe', async () => {
    const folder = makeProject({
      'handler.mjs': handler('.use(other()).use(postInvoke())'),
      'template.yaml': template('MemorySize: 256').replace('24.x', '20.x'),
    })
    const { code, stdout, stderr } = await postInvoke(folder, ['doctor', 'handler.mjs', '--config', 'template.yaml'])
    expect([code, stderr]).toEqual([1, ''])
    for (const line of [
      '✗ template.yaml, F: the runtime is nodejs20.x\n  This package needs nodejs22.x or later.\n',
      '✗ postInvoke() is not the outermost middleware. Before it: otherBefore\n',
      '\n2 problems, 0 warnings\n',
    ]) {
      expect(stdout).toContain(line)
    }
    expect(stdout).not.toContain('\u001b')
  })

  it.each([
    ['a configuration that is not there', ['--config', 'x.yaml'], 'Expected --config to be a file, got "x.yaml"'],
    ['a function without a configuration', ['--function', 'F'], 'Name it with --config.'],
  ])('ends with 2 for %s', async (_, args, message) => {
    const { code, stderr } = await postInvoke(makeProject({ 'handler.mjs': handler() }), [
      'doctor',
      'handler.mjs',
      ...args,
    ])
    expect([code, stderr]).toEqual([2, expect.stringContaining(message)])
  })
})
