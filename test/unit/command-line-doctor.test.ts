// What the doctor makes of versions, configurations and probes. test/sandbox/command-line-doctor.test.ts runs it.
import { copyFileSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { type Check, checkConfiguration, checkNode, checkPackages, isAtLeast } from '../../src/cli/checks.ts'
import { type FunctionConfiguration, readConfiguration } from '../../src/cli/configuration.ts'
import type { HandlerFile } from '../../src/cli/handler-file.ts'
import { checkProbe, type Probe } from '../../src/cli/probe-checks.ts'
import { PROBE_TASK } from '../../src/cli/probe-name.ts'
import type { InvocationRun } from '../../src/cli/run.ts'

const outline = (checks: readonly Check[]) => checks.map(({ id, status }) => `${status} ${id}`)

describe('doctor: versions', () => {
  it('compares numbers, not text', () => {
    expect([isAtLeast('22.3.0', '22.3.0'), isAtLeast('22.10.0', '22.3.0'), isAtLeast('24.0.0-rc.1', '22.3.0')]).toEqual(
      [true, true, true],
    )
    expect([isAtLeast('22.2.9', '22.3.0'), isAtLeast('9.9.9', '22.3.0')]).toEqual([false, false])
  })

  it('tells what is too old, what is missing and what is another one', () => {
    expect(checkNode('20.19.0').status).toBe('problem')
    const packages = (versions: Record<string, string>) => outline(checkPackages(name => versions[name], '1.2.3'))
    expect(packages({ 'middy-post-invoke': '1.2.3', '@middy/core': '7.3.0' })).toEqual(['ok package', 'ok middy'])
    expect(packages({ 'middy-post-invoke': '1.2.2', '@middy/core': '6.9.0' })).toEqual([
      'warning package',
      'problem middy',
    ])
    expect(packages({})).toEqual(['info package'])
  })
})

describe('doctor: configurations', () => {
  let folder: string
  const at = (name: string) => join(folder, name)
  const handler = (name = 'orders.ts', exported = 'handler'): HandlerFile => ({
    file: at(name),
    exported,
    project: folder,
    isTypeScript: true,
  })
  const read = (name: string, text: string, wanted?: string, of = handler()) => {
    writeFileSync(at(name), text)
    return readConfiguration(at(name), of, wanted)
  }

  beforeAll(() => {
    folder = realpathSync(mkdtempSync(join(tmpdir(), 'post-invoke-cli-')))
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  const sam = `
Transform: AWS::Serverless-2016-10-31
Conditions:
  IsProd: !Equals [!Ref Stage, prod]
Globals:
  Function:
    Timeout: 20
    Environment: { Variables: { A: '1', B: globals } }
    Layers: [!Ref Other]
Resources:
  Other: { Type: AWS::Serverless::LayerVersion, Properties: { ContentUri: x } }
  PostInvokeLayer: { Type: AWS::Serverless::LayerVersion, Properties: { ContentUri: layer.zip } }
  Orders:
    Type: AWS::Serverless::Function
    Properties:
      Handler: dist/orders.handler
      Runtime: nodejs24.x
      Environment: { Variables: { B: 2, TABLE: !Ref Table, URL: !Sub 'https://\${Api}', ALL: !Join ['', [a, !GetAtt B.C]] } }
      Layers: [!Ref PostInvokeLayer]
  Plain:
    Type: AWS::Lambda::Function
    Properties: { Handler: plain.handler, Runtime: nodejs22.x, Layers: ['arn:aws:lambda:eu-central-1:1:layer:middy-post-invoke:3'] }
`

  it('are read of SAM, with what all functions share', () => {
    expect(read('template.yaml', sam)).toMatchObject({
      name: 'Orders',
      runtime: 'nodejs24.x',
      timeout: 20,
      memory: 128,
      variables: { A: '1', B: '2' },
      layer: { text: 'PostInvokeLayer', content: 'missing' },
      hasUnknownLayers: true,
    })
    const plain = read('template.yaml', sam, 'Plain')
    expect(plain).toMatchObject({ name: 'Plain', timeout: 3, variables: {}, hasUnknownLayers: false })
    expect(plain?.layer).toEqual({ text: expect.stringContaining('layer:middy-post-invoke:3') })
  })

  it('are read of the Serverless Framework', () => {
    const text = `
provider: { runtime: nodejs22.x, environment: { A: 1 } }
layers: { postInvoke: { name: x, package: { artifact: layer.zip } } }
functions:
  orders: { handler: src/orders.handler, timeout: 9, layers: [{ Ref: PostInvokeLambdaLayer }] }
  other: { handler: src/other.handler }`
    expect(read('serverless.yml', text)).toMatchObject({
      name: 'orders',
      runtime: 'nodejs22.x',
      timeout: 9,
      variables: { A: '1' },
      layer: { content: 'missing' },
    })
    const other = read('serverless.yml', text, 'other')
    expect([other?.timeout, other?.layer]).toEqual([6, undefined])
  })

  it('say whether a layer is the one of this package', () => {
    const content = () => read('template.yaml', sam)?.layer?.content
    copyFileSync(new URL('../../package.json', import.meta.url), at('layer.zip'))
    expect(content()).toBe('other')
  })

  it('name no function where it could be more than one', () => {
    expect(read('template.yaml', sam, undefined, handler('else.ts'))).toBeUndefined()
    expect(() => read('template.yaml', sam, 'Nope')).toThrow('Expected --function to name a function of')
    expect(() => read('template.yaml', 'a: [')).toThrow('to be YAML that can be read')
    expect(read('template.yaml', '- 1')).toBeUndefined()
  })

  const configuration: FunctionConfiguration = {
    file: 'template.yaml',
    name: 'F',
    isImage: false,
    variables: {},
    hasUnknownLayers: false,
    runtime: 'nodejs24.x',
    timeout: 10,
    memory: 256,
  }

  it.each<[string, Partial<FunctionConfiguration>, Record<string, string>, string]>([
    ['an old runtime', { runtime: 'nodejs20.x' }, {}, 'problem runtime'],
    ['another language', { runtime: 'python3.13' }, {}, 'problem runtime'],
    ['no time', { timeout: 1 }, {}, 'warning timeout'],
    ['no layer where one is asked for', {}, { POST_INVOKE_COMPANION: 'Layer' }, 'problem layer'],
    ['perhaps none', { hasUnknownLayers: true }, { POST_INVOKE_COMPANION: 'layer' }, 'warning layer'],
    ['a missing layer', { layer: { text: 'L', content: 'missing', path: 'l.zip' } }, {}, 'problem layer'],
    ['another layer', { layer: { text: 'L', content: 'other', path: 'l.zip' } }, {}, 'problem layer'],
    [
      'a layer that is switched off',
      { layer: { text: 'L', content: 'same', path: 'l.zip' } },
      { POST_INVOKE_COMPANION: 'embedded' },
      'warning layer',
    ],
    ['no companion', {}, { POST_INVOKE_COMPANION: 'off' }, 'problem companion'],
    ['no child processes', {}, { NODE_OPTIONS: '--permission --allow-fs-read=*' }, 'warning node-options'],
    ['rejections in silence', {}, { NODE_OPTIONS: '--unhandled-rejections=warn' }, 'warning node-options'],
    ['a heap larger than the memory', {}, { NODE_OPTIONS: '--max-old-space-size=512' }, 'warning node-options'],
  ])('are told of when they have %s', (_, more, variables, expected) => {
    expect(outline(checkConfiguration({ ...configuration, ...more }, variables))).toEqual([expected])
  })

  it('are well otherwise', () => {
    expect(outline(checkConfiguration(configuration, { NODE_OPTIONS: '--enable-source-maps' }))).toEqual([
      'ok configuration',
    ])
    expect(
      outline(
        checkConfiguration(
          { ...configuration, layer: { text: 'arn' } },
          { AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA: '1' },
        ),
      ),
    ).toEqual(['ok configuration', 'info layer', 'info gate'])
  })
})

describe('doctor: probes', () => {
  const found = { type: 'probe', at: 1, isFound: true, earlier: [], isStreamed: false, doesNotWait: false } as const
  const task = {
    name: PROBE_TASK,
    requestId: 'r',
    index: 1,
    carried: false,
    startedAt: 20,
    endedAt: 30,
    status: 'completed',
  }
  const probe = (invocation: Partial<InvocationRun> = {}, more: Partial<Probe> = {}): Probe => ({
    run: {
      versions: ['0.1.0'],
      companion: 'gate',
      init: { readyAt: 100 },
      invocations: [
        {
          requestId: 'r',
          status: 'success',
          kind: 'response',
          payload: '1',
          streamed: false,
          answeredAt: 10,
          tasks: [task],
          unstarted: [],
          handedOff: [],
          faults: [],
          releasedAt: 40,
          ...invocation,
        },
      ],
      shutdown: { tasks: [], hooks: [], handedOff: [], faults: [], notRun: [] },
    },
    moments: [found],
    timeout: 3,
    hasLayer: false,
    hasEvent: false,
    runtime: 'as on nodejs24.x',
    ...more,
  })
  const worst = (given: Probe) => outline(checkProbe(given)).filter(line => !/^(ok|info) /.test(line))

  it.each<[string, Probe, string[]]>([
    ['nothing', probe(), []],
    ['the wrong companion', probe({}, { hasLayer: true }), ['problem companion']],
    ['two versions', probe({}, { run: { ...probe().run, versions: ['1.0.0', '1.1.0'] } }), ['problem versions']],
    ['a middleware before ours', probe({}, { moments: [{ ...found, earlier: ['x'] }] }), ['problem outermost']],
    ['tasks before the answer', probe({ tasks: [{ ...task, startedAt: 5 }] }), ['problem hold']],
    [
      'a streamed answer that waits for an empty event loop',
      probe({}, { moments: [{ ...found, isStreamed: true }], runtime: 'as on nodejs22.x' }),
      ['warning stream'],
    ],
    [
      'nothing where it does not wait',
      probe({}, { moments: [found, { ...found, isStreamed: true, doesNotWait: true }], runtime: 'as on nodejs22.x' }),
      [],
    ],
    ['nothing of a stream elsewhere', probe({}, { moments: [{ ...found, isStreamed: true }] }), []],
    ['a task that was frozen', probe({ tasks: [{ ...task, endedAt: 50 }] }), ['problem hold']],
    ['a task that was abandoned', probe({ tasks: [{ ...task, status: 'abandoned' }] }), ['problem hold']],
    ['no task', probe({ tasks: [] }), ['problem hold']],
    [
      'no time',
      probe({ tasks: [] }, { moments: [found, { type: 'task-unstarted', at: 2, task, status: 'dropped' }] }),
      ['problem timeout'],
    ],
    ['a handler that fails', probe({ status: 'error' }, { hasEvent: true }), ['problem event']],
    [
      'a warning of ours',
      probe(
        {},
        {
          moments: [
            found,
            { type: 'log', at: 1, source: 'function', stream: 'stderr', text: 'x middy-post-invoke: y' },
          ],
        },
      ),
      ['warning log'],
    ],
  ])('find %s', (_, given, expected) => {
    expect(worst(given)).toEqual(expected)
  })

  it('do not claim what they could not see', () => {
    const minified = probe({ tasks: [] }, { moments: [{ ...found, isFound: false }] })
    expect(outline(checkProbe(minified)).slice(2)).toEqual(['info outermost', 'ok companion', 'info hold'])
  })

  it('miss a middleware that was never made', () => {
    const run = { ...probe().run, versions: [] }
    expect(worst(probe({}, { run, moments: [{ ...found, isFound: false }] }))).toEqual(['problem middleware'])
  })
})
