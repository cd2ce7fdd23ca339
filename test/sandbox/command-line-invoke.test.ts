// `post-invoke invoke` on handlers of somebody else's project.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from '@jest/globals'
import { embeddedCompanion, postInvoke, useProjects } from '../support/command-line.ts'
import { eventually } from '../support/sandboxes.ts'

const makeProject = useProjects()
const ESCAPE = '\u001b'

const handler = `
import { setTimeout as sleep } from 'node:timers/promises'
import middy from '@middy/core'
import postInvoke, { onShutdown } from 'middy-post-invoke'

type Event = { fail?: string; milliseconds?: number }

if (process.env.HOOK) onShutdown(() => { if (process.env.HOOK === 'fail') throw new Error('hook broke') }, { name: 'close' })

export const handler = middy<Event, unknown>()
  .use(postInvoke())
  .handler(async (event, context) => {
    context.defer(
      async () => {
        await sleep(event.milliseconds ?? 20)
        if (event.fail === 'task') throw new Error('task broke')
      },
      { name: 'mail' },
    )
    context.defer(() => console.log('said by the task'), { name: 'log' })
    context.defer(() => {}, { name: 'alarm', on: 'error' })
    if (event.fail === 'handler') throw new RangeError('handler broke')
    if (event.fail === 'exit') process.exit(3)
    return { event, greeting: process.env.GREETING, cwd: process.cwd(), options: process.env.NODE_OPTIONS }
  })
`

const json = async (folder: string, args: readonly string[]) => {
  const ended = await postInvoke(folder, ['invoke', ...args, '--json'])
  try {
    return { ...ended, run: JSON.parse(ended.stdout) }
  } catch {
    throw new Error(`Expected JSON, got ${JSON.stringify(ended)}`)
  }
}

describe('post-invoke invoke', () => {
  it.each([
    ['--embedded', embeddedCompanion],
    ['--layer', 'layer'],
  ])('says with %s when the response left, and when each task ran', async (option, companion) => {
    const folder = makeProject({ 'src/handler.ts': handler })
    const { code, run } = await json(folder, ['src/handler.ts', option, '--freeze', '--count', '2'])
    expect([code, run.ok, run.failures, run.companion]).toEqual([0, true, [], companion])
    expect(run.invocations).toHaveLength(2)
    for (const { requestId, status, tasks, unstarted, answeredAt, releasedAt, payload } of run.invocations) {
      expect([status, JSON.parse(payload).cwd]).toEqual(['success', folder])
      expect(tasks.map(({ name, status, requestId }: any) => [name, status, requestId])).toEqual([
        ['log', 'completed', requestId],
        ['mail', 'completed', requestId],
      ])
      expect(unstarted).toMatchObject([{ name: 'alarm', status: 'skipped' }])
      const times = [answeredAt, ...tasks.flatMap(({ startedAt, endedAt }: any) => [startedAt, endedAt]), releasedAt]
      expect(times).toEqual(times.toSorted((one, other) => one - other))
    }
    expect(readdirSync(folder).sort()).toEqual(['node_modules', 'package.json', 'src'])
  })

  it('shows it as it happens, and draws it', async () => {
    const folder = makeProject({ 'handler.ts': handler })
    const { code, stdout, stderr } = await postInvoke(folder, [
      'invoke',
      'handler.ts',
      '--env',
      'HOOK=1',
      '--runtime',
      'nodejs24.x',
    ])
    expect([code, stderr]).toEqual([0, ''])
    const order = [
      'handler.ts: embedded, timeout 3 s, as on nodejs24.x',
      '\ninit\n',
      'companion: embedded, the gate',
      'ready',
      'request in',
      'response out',
      'task alarm is not started: skipped',
      'task log starts',
      'task mail starts',
      'task mail ended, after',
      'released',
      'response: {',
      'handler   ▒',
      'mail',
      'held      ░',
      '\nshutdown\n',
      "SIGTERM to the function's process",
      'hook close starts',
      'hook close ended',
      'The invocation succeeded, and all 2 deferred tasks ended.\n',
    ]
    let from = 0
    for (const part of order) {
      expect(stdout.slice(from)).toContain(part)
      from = stdout.indexOf(part, from) + part.length
    }
    expect(stdout).toContain('│ said by the task')
    expect(stdout).not.toContain(ESCAPE)
  })

  it('has colours where they are asked for', async () => {
    const folder = makeProject({ 'a.mjs': 'export const handler = async () => 1' })
    const { stdout } = await postInvoke(folder, ['invoke', 'a.mjs'], { env: { FORCE_COLOR: '1' } })
    expect(stdout).toContain(`${ESCAPE}[`)
  })

  it.each([
    ['a handler', { fail: 'handler' }, [], 'the handler failed (RangeError): handler broke'],
    ['a task', { fail: 'task' }, [], 'task "mail" failed: Error: task broke'],
    ['its process', { fail: 'exit' }, [], "the function's process, or an extension, ended (Runtime.ExitError)"],
    ['a task without end', { milliseconds: 60_000 }, ['--timeout', '2'], 'task "mail" abandoned: PostInvokeError'],
    ['a shutdown hook', {}, ['--env', 'HOOK=fail'], 'shutdown: hook "close" failed: Error: hook broke'],
  ])('ends with 1 when %s fails', async (_, event, args, message) => {
    const folder = makeProject({ 'handler.ts': handler })
    const { code, run } = await json(folder, ['handler.ts', '--event', JSON.stringify(event), ...args])
    expect([code, run.ok, run.failures.filter((failure: string) => failure.includes(message))]).toEqual([
      1,
      false,
      [expect.stringContaining(message)],
    ])
  })

  it('takes the event from a file, from the arguments and from the standard input', async () => {
    const folder = makeProject({
      'a.mjs': 'export const handler = async event => event',
      'event.json': '\ufeff{"from":1}',
    })
    const events: unknown[] = []
    for (const [given, stdin] of [['event.json'], ['[2]'], [' {"from":3}'], ['-', '"four"']] as const) {
      const { stdout } = await postInvoke(folder, ['invoke', 'a.mjs', '-e', given, '--json'], { stdin: stdin ?? '' })
      events.push(JSON.parse(JSON.parse(stdout).invocations[0].payload))
    }
    expect(events).toEqual([{ from: 1 }, [2], { from: 3 }, 'four'])
  })

  it('passes variables on that it is given, and no others', async () => {
    const folder = makeProject({
      'a.mjs':
        'export const handler = async () => Object.fromEntries(["A", "B", "C", "D", "NODE_OPTIONS", "POST_INVOKE_OBSERVER"].map(name => [name, process.env[name] ?? null]))',
      '.env': 'A=file\nB="of the file"\n',
    })
    const args = ['invoke', 'a.mjs', '--json', '--env-from', '.env', '--env', 'A=given=1', '--env', 'C']
    const { stdout } = await postInvoke(folder, [...args, '--env', 'NODE_OPTIONS=--no-deprecation'], {
      env: { C: 'here', D: 'not' },
    })
    expect(JSON.parse(JSON.parse(stdout).invocations[0].payload)).toEqual({
      A: 'given=1',
      B: 'of the file',
      C: 'here',
      D: null,
      NODE_OPTIONS: expect.stringMatching(/^--no-deprecation --import=file:/),
      POST_INVOKE_OBSERVER: null,
    })
  })

  it.each([
    [
      'an event that is no file',
      ['-e', 'x.json'],
      'Expected --event to be a file, JSON or - for the standard input, got "x.json" (ENOENT).',
    ],
    ['an event that is no JSON', ['-e', '{'], 'Expected --event to be JSON, got "{": '],
    ['a variable that is not set', ['--env', 'NOT_SET_HERE'], 'Set it, or write NOT_SET_HERE=VALUE.'],
    ['a variable without a name', ['--env', '=1'], 'Expected --env to be NAME=VALUE or NAME, got "=1".'],
    [
      'a file of variables that is not there',
      ['--env-from', 'x'],
      'Expected --env-from to be a file, got "x" (ENOENT).',
    ],
    ['a runtime client that is not there', ['--runtime', 'x'], 'npm install --save-dev aws-lambda-ric'],
    ['both companions', ['--layer', '--embedded'], "option '--layer' cannot be used with option '--embedded'"],
    ['no timeout', ['--timeout', '1000'], 'Expected seconds, above 0 and at most 900.'],
    ['no count', ['--count', '0'], 'Expected a whole number above 0.'],
  ])('ends with 2 for %s', async (_, args, message) => {
    const folder = makeProject({ 'a.mjs': 'export const handler = async () => 1' })
    const { code, stdout, stderr } = await postInvoke(folder, ['invoke', 'a.mjs', ...args])
    expect([code, stdout, stderr]).toEqual([2, '', expect.stringContaining(message)])
  })

  it('says what a handler exports that has not what was asked for', async () => {
    const folder = makeProject({ 'a.mjs': 'export const create = async () => 1; export default {}' })
    const { code, stderr } = await postInvoke(folder, ['invoke', 'a.mjs'])
    expect([code, stderr]).toEqual([
      1,
      expect.stringContaining('Expected a.mjs to export the function handler, it exports create, default.'),
    ])
  })

  it('says that nothing was deferred where the middleware is not there', async () => {
    const folder = makeProject({ 'a.cjs': 'exports.api = { create: async () => 1 }' })
    const { code, stdout } = await postInvoke(folder, ['invoke', 'a.cjs#api.create'])
    expect([code, stdout]).toEqual([0, expect.stringContaining('The handler has called neither postInvoke() nor')])
  })

  it('does not say so of a handler that keeps its log to itself', async () => {
    const folder = makeProject({ 'handler.ts': handler })
    const { stdout } = await postInvoke(folder, ['invoke', 'handler.ts', '--env', 'POST_INVOKE_LOG_LEVEL=SILENT'])
    expect(stdout).not.toContain('neither')
    expect(stdout).toContain('all 2 deferred tasks ended')
  })

  it('shows the progress of many invocations, and their times', async () => {
    const folder = makeProject({ 'handler.ts': handler })
    const { code, stdout } = await postInvoke(folder, ['invoke', 'handler.ts', '-n', '12', '-e', '{"milliseconds":1}'])
    expect(code).toBe(0)
    expect(stdout).toContain('\n  6 of 12 invocations\n')
    expect(stdout).toMatch(/min +median +max\n {2}response out .* ms\n {2}released /)
    expect(stdout).not.toContain('request in')
    expect(stdout).toContain('All 12 invocations succeeded, and all 24 deferred tasks ended.')
  })

  it('draws a picture', async () => {
    const folder = makeProject({ 'handler.ts': handler.replace("'mail'", "'<mail & more>'") })
    expect((await postInvoke(folder, ['invoke', 'handler.ts', '--svg', 'a.svg'])).code).toBe(0)
    const svg = readFileSync(join(folder, 'a.svg'), 'utf8')
    expect(svg).toMatch(/^<svg xmlns="http:\/\/www.w3.org\/2000\/svg" viewBox="0 0 860 \d+"/)
    expect(svg).toContain('>task &lt;mail &amp; more&gt;</text>')
    expect(svg.match(/<rect class="task"/g)).toHaveLength(2)
    expect(svg).toMatch(/response out: \d+ ms/)
  })

  it('leaves nothing behind when it is interrupted', async () => {
    const folder = makeProject({ 'handler.ts': handler })
    const args = ['invoke', 'handler.ts', '-e', '{"milliseconds":50000}', '--timeout', '60']
    let isKilled = false
    const { code } = await postInvoke(folder, args, {
      onOutput: (output, kill) => {
        if (isKilled || !output.includes('task mail starts')) return
        isKilled = true
        kill('SIGINT')
      },
    })
    expect(code).toBe(130)
    expect(readdirSync(folder).sort()).toEqual(['handler.ts', 'node_modules', 'package.json'])
    await eventually(() => !processesIn(folder))
  })
})

describe('post-invoke invoke with TypeScript', () => {
  const files = {
    'src/handler.ts': `
      import { answer } from './answer'
      import { Color } from '@/color'
      export const handler = async () => [answer, Color.Green]`,
    'src/answer.ts': 'export const answer: number = 42',
    'src/color.ts': "export enum Color { Green = 'green' }",
    'tsconfig.json': JSON.stringify({ compilerOptions: { paths: { '@/*': ['./src/*'] } } }),
  }
  const payloadOf = (run: any) => JSON.parse(run.invocations[0].payload)

  it("bundles it with the project's esbuild, so that enums, paths and imports without an ending work", async () => {
    const { code, run } = await json(makeProject(files, ['esbuild']), ['src/handler.ts'])
    expect([code, payloadOf(run)]).toEqual([0, [42, 'green']])
  })

  it('bundles what a project of CommonJS is written in: import, require, or what neither has', async () => {
    const folder = makeProject(
      {
        'package.json': '{"type":"commonjs"}',
        'imports.ts':
          "import middy from '@middy/core'\nexport const handler = async (): Promise<unknown> => [typeof middy, __filename]",
        'requires.ts':
          "import fs = require('node:fs')\nexport const handler = async (): Promise<unknown> => [typeof fs.statSync, __dirname]",
        'exports.cts':
          "const { statSync } = require('node:fs')\nexports.handler = async (): Promise<unknown> => typeof statSync",
        'awaits.ts': 'const answer: number = await Promise.resolve(42); export const handler = async () => answer',
        'meta.ts': 'export const handler = async (): Promise<unknown> => typeof import.meta.url',
      },
      ['esbuild'],
    )
    const payloads: unknown[] = []
    for (const file of ['imports.ts', 'requires.ts', 'exports.cts', 'awaits.ts', 'meta.ts']) {
      payloads.push(payloadOf((await json(folder, [file])).run))
    }
    const [imports, requires, ...rest] = payloads
    expect([imports, requires]).toEqual([
      ['function', join(folder, 'imports.ts')],
      ['function', folder],
    ])
    expect(rest).toEqual(['function', 42, 'string'])
  })

  it('runs the middleware of a bundled handler, and traces its errors back to the source', async () => {
    const folder = makeProject({ 'handler.ts': handler }, ['esbuild'])
    const { code, stdout } = await postInvoke(folder, ['invoke', 'handler.ts', '-e', '{"fail":"task"}'])
    expect([code, stdout]).toEqual([1, expect.stringContaining("bundled with the project's esbuild")])
    expect(stdout).toContain(`${join(folder, 'handler.ts')}:`)
  })

  it('says what esbuild says of an error', async () => {
    const { code, stderr } = await postInvoke(makeProject({ 'a.ts': 'export const = 1' }, ['esbuild']), [
      'invoke',
      'a.ts',
    ])
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/^post-invoke: esbuild could not bundle a\.ts\. .*\n.*a\.ts:1:13: ERROR: /),
    ])
  })

  it.each([
    ['without esbuild', [], []],
    ['with --no-bundle', ['esbuild'], ['--no-bundle']],
  ])('says %s what Node.js cannot do, and what to do', async (_, packages, args) => {
    const { code, stderr } = await postInvoke(makeProject(files, packages), ['invoke', 'src/handler.ts', ...args])
    expect([code, stderr]).toEqual([1, expect.stringContaining('npm install --save-dev esbuild')])
  })

  it.each([
    ['a.ts', '.mts, or install esbuild'],
    ['a.js', '.mjs.'],
  ])('says what to do about %s, an ES module in a project of CommonJS', async (file, ending) => {
    const files = {
      'package.json': '{"type":"commonjs"}',
      [file]: "import 'node:fs'\nexport const handler = async () => 1",
    }
    const { code, stderr } = await postInvoke(makeProject(files), ['invoke', file])
    expect(code).toBe(1)
    expect(stderr).toContain(
      'It is an ES module, and package.json says "type": "commonjs". Change that (npm pkg set type=module)',
    )
    expect(stderr).toContain(`give the file the ending ${ending}`)
  })

  it('needs esbuild for .tsx', async () => {
    const { code, stderr } = await postInvoke(makeProject({ 'a.tsx': '' }), ['invoke', 'a.tsx'])
    expect([code, stderr]).toEqual([2, expect.stringContaining('Expected esbuild for a.tsx')])
  })
})

/** Whether any process has its working directory there. Linux only. */
const processesIn = (folder: string): boolean => {
  if (!existsSync('/proc')) return false
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .some(pid => {
      try {
        return readFileSync(`/proc/${pid}/environ`, 'latin1').includes(`LAMBDA_TASK_ROOT=${folder}\0`)
      } catch {
        return false
      }
    })
}
