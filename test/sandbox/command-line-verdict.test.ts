// What `post-invoke invoke` says of a run: that all that failed or was lost is named, and in which order things happened.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from '@jest/globals'
import { embeddedCompanion, postInvoke, root, useProjects } from '../support/command-line.ts'

const makeProject = useProjects()

const handler = `
import { setTimeout as sleep } from 'node:timers/promises'
import middy from '@middy/core'
import postInvoke from 'middy-post-invoke'
import withHandOff from 'middy-post-invoke/hand-off'
import 'middy-post-invoke/hand-off/embedded'

const tasks = {
  burns: () => { for (;;); },
  hangs: () => new Promise(() => setInterval(() => {}, 1_000)),
  kills: () => process.kill(process.pid, 'SIGKILL'),
  exits: () => process.exit(1),
  writes: async () => {
    console.log('said at the start')
    await sleep(20)
    console.log('said at the end')
  },
}

export const handler = middy()
  .use(postInvoke())
  .use(withHandOff())
  .handler(async ({ url, names = [], jobs = 0 }, context) => {
    if (url) context.handOff({ url }, { name: 'report', retry: { maxRetries: 0 } })
    for (const name of names) context.defer(tasks[name] ?? (() => sleep(10)), { name })
    for (let job = 0; job < jobs; job += 1) context.defer(() => tasks.kills())
    console.log('said by the handler')
    return 'an answer'
  })
`

const runAs = async (event: unknown, args: readonly string[] = []) => {
  const folder = makeProject({ 'handler.mjs': handler })
  const { code, stdout } = await postInvoke(folder, ['invoke', 'handler.mjs', '-e', JSON.stringify(event), ...args])
  return { code, stdout }
}

const json = async (event: unknown, args: readonly string[] = []) => {
  const { code, stdout } = await runAs(event, [...args, '--json'])
  return { code, run: JSON.parse(stdout) }
}

/** Nothing listens there. */
const REFUSED = 'http://127.0.0.1:1/'

const expectOrder = (text: string, parts: readonly string[]) => {
  let from = 0
  for (const part of parts) {
    expect(text.slice(from)).toContain(part)
    from = text.indexOf(part, from) + part.length
  }
}

describe('post-invoke invoke names all that went wrong', () => {
  it.each([['--embedded'], ['--layer']])('with %s: handed-off work that failed', async option => {
    const event = { url: REFUSED }
    const { code, run } = await json(event, [option])
    expect([code, run.ok]).toEqual([1, false])
    expect(run.failures).toEqual([expect.stringMatching(/^handed-off work "report" failed: .*ECONNREFUSED/)])
    expect(run.invocations[0].handedOff).toMatchObject([{ name: 'report', status: 'failed' }])
    const { code: shownCode, stdout } = await runAs(event, [option])
    expect(shownCode).toBe(1)
    expectOrder(stdout, [
      'response out',
      'handed-off work report failed: ',
      'report    ',
      'handed off, failed',
      '\nshutdown\n',
      'handed-off work "report" failed: ',
    ])
    expect(stdout).not.toContain('succeeded')
  })

  it.each([
    ['--embedded', 'timeout'],
    ['--layer', 'success'],
  ])('with %s: tasks that never started, beside one that burns', async (option, status) => {
    const event = { names: ['first', 'burns'] }
    const { code, run } = await json(event, [option, '--timeout', '1', '--runtime', 'nodejs24.x'])
    expect([code, run.invocations[0].status]).toEqual([1, status])
    expect(run.failures).toEqual(expect.arrayContaining(['task "burns" did not end']))
    if (option === '--layer') {
      expect(run.failures.join()).toContain('task "first" was never started')
      expect(run.invocations[0].unstarted).toMatchObject([{ name: 'first', status: 'lost' }])
    } else expect(run.failures.join()).toContain('was never started') // nobody is left who could say its name
  })

  it.each([
    ['--embedded', 'kills'],
    ['--layer', 'kills'],
    ['--embedded', 'exits'],
    ['--layer', 'exits'],
  ])('with %s: tasks that were lost with a process that one %s', async (option, name) => {
    const args = [option, '--runtime', 'nodejs24.x', '--timeout', '60'] // which a busy machine does not reach
    const { code, run } = await json({ names: ['mail', 'audit', name] }, args)
    expect([code, run.invocations[0].status]).toEqual([1, 'crash'])
    expect(run.failures).toEqual(
      expect.arrayContaining(["the function's process, or an extension, ended", `task "${name}" did not end`]),
    )
    const lost = run.invocations[0].unstarted.map(({ status }: any) => status)
    expect(lost).toEqual(['lost', 'lost'])
    const names = run.invocations[0].unstarted.map(({ name }: any) => name).sort()
    // The gate's process alone knew them, and SIGKILL leaves it no time.
    expect(names).toEqual(option === '--embedded' && name === 'kills' ? ['task 1', 'task 2'] : ['audit', 'mail'])
  })

  it('tells what happened as it went on, in the terminal too', async () => {
    const { stdout } = await runAs({ names: ['mail', 'kills'] }, ['--layer'])
    expectOrder(stdout, [
      'task kills starts',
      "the function's process ended (SIGKILL)",
      'kills ',
      ', never ended',
      'mail ',
      'never started',
      'crashed at',
      'task "kills" did not end',
      'task "mail" was never started',
    ])
  })

  it('calls a task without a name by its number, once', async () => {
    const { stdout } = await runAs({ jobs: 2 })
    expect(stdout).toContain(' task 2 starts\n')
    expect(stdout).toContain('\ntask 2 did not end\ntask 1 was never started')
    expect(stdout).not.toContain('task task')
    expect(stdout).not.toContain('task "task')
  })

  it('counts handed-off work that was done', async () => {
    const { createServer } = await import('node:http')
    const server = createServer((_, response) => response.end()).listen(0, '127.0.0.1')
    await new Promise(resolve => server.once('listening', resolve))
    const { port } = server.address() as { port: number }
    const { code, stdout } = await runAs({ url: `http://127.0.0.1:${port}/` })
    server.close()
    expect([code, stdout]).toEqual([
      0,
      expect.stringContaining('The invocation succeeded, and 1 piece of handed-off work was done.'),
    ])
    expect(stdout).toContain('handed-off work report done')
  })
})

describe('post-invoke invoke draws what did not end', () => {
  it('to the end, and names a timeout', async () => {
    const folder = makeProject({ 'handler.mjs': handler })
    const event = JSON.stringify({ names: ['burns'] })
    const args = ['invoke', 'handler.mjs', '-e', event, '--timeout', '1', '--svg', 'a.svg', '--runtime', 'nodejs24.x']
    const { stdout } = await postInvoke(folder, args)
    const [bar = ''] = /^ *burns .*$/m.exec(stdout) ?? []
    expect(bar.match(/█/g)?.length).toBeGreaterThan(20)
    expect(stdout).toMatch(/held .* timed out at 1\.\d+ s\n/)
    const svg = readFileSync(join(folder, 'a.svg'), 'utf8')
    expect(svg).toContain('>ended by a timeout<')
    expect(svg).toMatch(/>timed out: \d+ ms</)
    expect(svg).not.toMatch(/lets go|let go|released/)
    const [, x = '', width = ''] = /<rect class="failed" x="([\d.]+)" y="\d+" width="([\d.]+)"/.exec(svg) ?? []
    const [, heldX = '', heldWidth = ''] = /<rect class="held" x="([\d.]+)" y="\d+" width="([\d.]+)"/.exec(svg) ?? []
    expect(Number(x) + Number(width)).toBeCloseTo(Number(heldX) + Number(heldWidth), 0)
  })
})

describe('the picture in README.md', () => {
  it('is drawn by the command that stands below it', async () => {
    const readme = readFileSync(join(root, 'README.md'), 'utf8')
    const [, given = ''] = /`npx middy-post-invoke (invoke [^`]* --svg docs\/timeline\.svg)`/.exec(readme) ?? []
    const svg = join(makeProject({}), 'timeline.svg')
    const args = given.split(' ').map(word => (word === 'docs/timeline.svg' ? svg : word))
    expect(await postInvoke(root, args)).toMatchObject({ code: 0, stderr: '' })
    const lanes = (path: string) =>
      [...readFileSync(path, 'utf8').matchAll(/<text class="label"[^>]*>([^<]*)</g)].map(([, label]) => label)
    expect(lanes(svg)).toEqual(lanes(join(root, 'docs', 'timeline.svg')))
  })
})

describe('post-invoke invoke tells in order', () => {
  it('what the function wrote, between the moments at which it did', async () => {
    const { stdout } = await runAs({ names: ['writes'] }, ['--count', '2'])
    const once = [
      'request in',
      '│ said by the handler',
      'response out',
      'task writes starts',
      '│ said at the start',
      '│ said at the end',
      'task writes ended',
      'released',
    ]
    expectOrder(stdout, [...once, 'request in', ...once.slice(1)])
    const lines = [...stdout.matchAll(/^ +([\d.]+) (ms|s) {2}/gm)]
    const times = lines.map(([, time, unit]) => Number(time) * (unit === 's' ? 1_000 : 1))
    const falls = times.filter((time, index) => time < (times[index - 1] ?? 0))
    expect(falls).toHaveLength(3) // two invocations and the shutdown begin anew
  })
})

describe('post-invoke invoke explains the end', () => {
  it.each([
    ['nodejs24.x', "SIGKILL to the function's process: the usual end where no extension asks for time\n"],
    ['nodejs22.x', "the function's process ended (SIGKILL by itself: it was done)\n"],
    ['nodejs22.x', "SIGTERM to the function's process: time for its shutdown\n"],
  ])('of a healthy environment of %s', async (runtime, line) => {
    const { code, stdout } = await runAs({ names: ['mail'] }, ['--runtime', runtime])
    expect([code, stdout]).toEqual([0, expect.stringContaining(line)])
  })
})

describe('post-invoke invoke shows the companion that a runtime has', () => {
  it.each([
    ['nodejs24.x', [], 'gate', 'embedded, the gate'],
    ['nodejs22.x', [], 'internal', 'embedded, the internal extension'],
    ['nodejs22.x', ['--layer'], 'layer', 'the layer'],
  ])('%s %s', async (runtime, args, companion, words) => {
    const { code, run } = await json({ names: ['mail'] }, ['--runtime', runtime, ...args])
    expect([code, run.companion, run.runtime]).toEqual([0, companion, runtime])
    const { stdout } = await runAs({}, ['--runtime', runtime, ...args])
    expect(stdout).toContain(`as on ${runtime}`)
    expect(stdout).toContain(`companion: ${words}`)
  })

  it('is that of the Node.js that runs here, unless another one is asked for', async () => {
    expect((await json({})).run.companion).toBe(embeddedCompanion)
  })

  it('refuses a runtime that is too old', async () => {
    const { code } = await runAs({}, ['--runtime', 'nodejs20.x'])
    expect(code).toBe(2)
  })
})

describe('post-invoke invoke, where nothing can be run', () => {
  it('prints JSON of an init that failed', async () => {
    const folder = makeProject({ 'a.mjs': "throw new RangeError('no database')" })
    const { code, stdout, stderr } = await postInvoke(folder, ['invoke', 'a.mjs', '--json'])
    expect([code, stderr]).toEqual([1, ''])
    expect(JSON.parse(stdout)).toMatchObject({
      ok: false,
      failures: ['init failed: RangeError: no database'],
      init: { error: { type: 'RangeError', message: 'no database' } },
      invocations: [],
    })
  })

  it('prints JSON of what cannot be bundled', async () => {
    const folder = makeProject({ 'a.ts': 'export const = 1' }, ['esbuild'])
    const { code, stdout, stderr } = await postInvoke(folder, ['invoke', 'a.ts', '--json'])
    expect([code, stderr]).toEqual([1, ''])
    expect(JSON.parse(stdout)).toMatchObject({
      ok: false,
      failures: [expect.stringContaining('could not bundle a.ts')],
    })
  })

  it.each([['invoke'], ['doctor']])('%s refuses a Node.js that is too old', async command => {
    const folder = makeProject({
      'a.mjs': 'export const handler = async () => 1',
      'old.mjs': "Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '20.19.0' } })",
    })
    const env = { NODE_OPTIONS: `--import=${join(folder, 'old.mjs')}` }
    const { code, stdout, stderr } = await postInvoke(folder, [command, 'a.mjs'], { env })
    expect(code).toBe(1)
    expect(stdout + stderr).toMatch(/Node\.js 20\.19\.0 runs here\.?\s+This package needs 22\.\d+\.\d+ or later\./)
    expect(stdout).not.toContain('request in')
    const inJson = await postInvoke(folder, [command, 'a.mjs', '--json'], { env })
    expect(inJson.code).toBe(1)
    expect(JSON.parse(inJson.stdout).ok).toBe(false)
  })

  it.each([
    ['a.ts', "import 'some-package'", 'npm install some-package', []],
    ['a.mjs', "import '@some/package/part'", 'npm install @some/package', []],
    ['a.cjs', "require('some-package')", 'npm install some-package', []],
    ['a.ts', "import 'some-package'", 'npm install some-package', ['esbuild']],
    ['a.mjs', "import 'listed'", 'is listed in package.json, but not installed. Install it: npm install', []],
  ])('says of a package that %s has not how to install it: %s', async (file, text, advice, packages) => {
    const files = { [file]: text, 'package.json': '{"type":"module","dependencies":{"listed":"1"}}' }
    const { code, stderr } = await postInvoke(makeProject(files, packages), ['invoke', file])
    expect([code, stderr]).toEqual([1, expect.stringContaining(advice)])
    expect(stderr).not.toContain('esbuild')
  })

  it('knows a path of tsconfig.json from a package', async () => {
    const folder = makeProject({
      'a.ts': "import 'lib/thing'",
      'tsconfig.json': '{ "compilerOptions": { "paths": { "lib/*": ["./src/*"] } } }',
    })
    const { stderr } = await postInvoke(folder, ['invoke', 'a.ts'])
    expect(stderr).toContain('npm install --save-dev esbuild')
    expect(stderr).not.toContain('npm install lib')
  })
})

describe('post-invoke invoke of a handler that calls postInvoke() late', () => {
  const late = `
    import middy from '@middy/core'
    import postInvoke from 'middy-post-invoke'
    let made
    const make = () => middy().use(postInvoke()).handler(async (_, context) => context.defer(() => {}, { name: 'mail' }))
    export const handler = (event, context) => (made ??= make())(event, context)`

  it('does not say both that it was not called, and that its task ended', async () => {
    const folder = makeProject({ 'a.mjs': late })
    const { code, stdout } = await postInvoke(folder, ['invoke', 'a.mjs'])
    expect(code).toBe(0)
    expect(stdout).toContain('was first called inside an invocation')
    expect(stdout).toContain('Call it at module level.')
    expect(stdout).not.toContain('neither')
    expect(stdout).toContain('task mail ended')
    const { stdout: text } = await postInvoke(folder, ['invoke', 'a.mjs', '--json'])
    expect(JSON.parse(text)).toMatchObject({ calledLate: true, versions: [expect.any(String)] })
  })
})

describe('a file that a command writes', () => {
  const commands = [
    ['invoke --svg', (path: string) => ['invoke', 'a.mjs', '--svg', `${path}.svg`], '.svg'],
    ['layer --out', (path: string) => ['layer', '--out', `${path}.zip`], '.zip'],
    ['template --out', (path: string) => ['template', 'a.mjs', '--embedded', '--out', `${path}.yaml`], '.yaml'],
  ] as const
  const project = () => makeProject({ 'a.mjs': 'export const handler = async () => 1', file: '' })

  it.each(commands)('%s: its folders are made', async (_, args, ending) => {
    const folder = project()
    expect(await postInvoke(folder, args('one/two/three'))).toMatchObject({ code: 0, stderr: '' })
    expect(existsSync(join(folder, `one/two/three${ending}`))).toBe(true)
  })

  it.each(commands)('%s: is refused where a file is in the way, and nothing is run', async (_, args, _ending) => {
    const { code, stdout, stderr } = await postInvoke(project(), args('file/three'))
    expect([code, stdout, stderr]).toEqual([1, '', expect.stringMatching(/^post-invoke: E\w+: .*file/)])
  })

  it.each(commands)('%s: is refused where a folder has its name', async (_, args, ending) => {
    const folder = project()
    mkdirSync(join(folder, `three${ending}`))
    writeFileSync(join(folder, `three${ending}`, 'x'), '')
    const { code, stdout, stderr } = await postInvoke(folder, args('three'))
    expect([code, stdout, stderr]).toEqual([2, '', expect.stringContaining(`three${ending} is a folder`)])
  })
})
