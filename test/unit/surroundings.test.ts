// What other code does to the process around us, and what the process itself forbids: each in a process of its own, with
// the package bundled as users bundle it.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import { canUnshare, unshare } from '../support/fault-mounts.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
let folder: string
const children: ChildProcess[] = []

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'post-invoke-'))
  writeFileSync(
    join(folder, 'all.ts'),
    `export { default as middy } from ${JSON.stringify(join(root, 'node_modules/@middy/core/index.js'))}
export { default as postInvoke, defer, onShutdown } from ${JSON.stringify(join(root, 'src/index.ts'))}
`,
  )
  const options = ['--bundle', '--platform=node', '--format=esm', '--target=node22', '--loader:.sh=text']
  execFileSync(join(root, 'node_modules/.bin/esbuild'), [join(folder, 'all.ts'), ...options, '--outfile=all.mjs'], {
    cwd: folder,
    stdio: 'pipe',
  })
})

afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
})

afterAll(() => rmSync(folder, { recursive: true, force: true }))

type Run = {
  code: string
  /** What starts it. */
  command?: string[]
  /** Before anything of ours is loaded. */
  first?: string
  flags?: string[]
  variables?: Record<string, string>
}

const start = ({ code, command = [], first = '', flags = [], variables = {} }: Run) => {
  const file = join(folder, `${children.length}.mjs`)
  writeFileSync(file, `${first}\nconst { middy, postInvoke, defer, onShutdown } = await import('./all.mjs')\n${code}`)
  const [program = '', ...args] = [...command, process.execPath, ...flags, file]
  const child = spawn(program, args, {
    env: { PATH: process.env.PATH, ...variables },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  children.push(child)
  return child
}

const run = async (given: Run) => {
  const child = start(given)
  const closed = once(child, 'close')
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)])
  const [status, signal] = await closed
  return { stdout: stdout.split('\n').slice(0, -1), stderr, end: status ?? signal }
}

const NOTHING_HOLDS = { AWS_LAMBDA_RUNTIME_API: '127.0.0.1:1', POST_INVOKE_COMPANION: 'off' }
const EMBEDDED = { AWS_LAMBDA_RUNTIME_API: '127.0.0.1:1', POST_INVOKE_COMPANION: 'embedded' }

/** What nodejs24.x has made by the time at which the function is loaded. */
const CLIENT = `
let current
globalThis.awslambda = {
  streamifyResponse() {},
  InvokeStore: {
    run(context, fn) { current = context; return fn() },
    getRequestId: () => current?.id,
  },
}
const invoke = (id, handler) => awslambda.InvokeStore.run({ id }, () => handler({}, { awsRequestId: id, getRemainingTimeInMillis: () => 60_000 }))
`

const HANDLER = `
const say = text => process.stdout.write(text + '\\n')
const pause = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds))
const handler = middy({ timeoutEarlyInMillis: 0 })
  .use(postInvoke({ onTaskError: error => say('failed: ' + error.message) }))
  .handler(async (event, context) => {
    context.defer(async () => { await pause(5); say('first'); defer(async () => say('nested')) })
    context.defer(() => pause(5).then(() => { throw new Error('broken') }), { name: 'bad' })
    context.defer(pause(1).then(() => say('promise')))
    return 'answer'
  })
`

/** For where not even this can be made. */
const PAUSE =
  "const pause = milliseconds => (async () => {})().then(() => import('node:timers/promises')).then(timers => timers.setTimeout(milliseconds))"

/** Behind the gate the client has its promise once they have run, and where nothing holds the caller has its answer. */
const INVOKED = ['promise', 'failed: broken', 'first', 'nested']

describe.each<[string, string]>([
  ['a subclass', 'globalThis.Promise = class Other extends Promise {}'],
  [
    'a class of its own',
    `const Native = Promise
globalThis.Promise = class Other {
  #inner
  constructor(executor) { this.#inner = new Native(executor) }
  then(...callbacks) { return Other.resolve(this.#inner.then(...callbacks)) }
  catch(callback) { return this.then(undefined, callback) }
  finally(callback) { return Other.resolve(this.#inner.finally(callback)) }
  static resolve(value) { return value instanceof Other ? value : new Other(resolve => resolve(value)) }
  static reject(error) { return new Other((_, reject) => reject(error)) }
  static all(values) { return Other.resolve(Native.all(values)) }
  static race(values) { return Other.resolve(Native.race(values)) }
}`,
  ],
  ['one that cannot be called', 'globalThis.Promise = class Broken { constructor() { throw new Error("broken") } }'],
  [
    'that of zone.js',
    `await import(${JSON.stringify(import.meta.resolve('zone.js/node'))})
if (Promise === (async () => {})().constructor) throw new Error('Promise is as it was')`,
  ],
])('globalThis.Promise replaced by %s', (what, first) => {
  // Middy itself makes promises only for its own time limit, which is switched off here.
  const handler = what.includes('cannot') ? HANDLER.replace(/const pause.*/, PAUSE) : HANDLER

  it('outside Lambda', async () => {
    const { stdout, stderr } = await run({ first, code: `${handler}\nsay(await handler({}, {}))` })
    expect({ stdout, stderr }).toEqual({ stdout: ['answer', ...INVOKED], stderr: expect.stringContaining('broken') })
  })

  it('beside the gate, which holds', async () => {
    const code = `${handler}\nsay(await invoke('r1', handler))`
    const { stdout } = await run({ first: CLIENT + first, code, variables: EMBEDDED })
    expect(stdout).toEqual([...INVOKED, 'answer'])
  })

  // Middy awaits instances of that class alone, and here none can be made.
  if (what.includes('cannot')) return

  it('where nothing holds, and the answer waits', async () => {
    const { stdout } = await run({ first, code: `${handler}\nsay(await handler({}, {}))`, variables: NOTHING_HOLDS })
    expect(stdout).toEqual([...INVOKED, 'answer'])
  })
})

describe('--frozen-intrinsics', () => {
  const flags = ['--frozen-intrinsics', '--no-warnings']

  it('outside Lambda', async () => {
    const { stdout } = await run({ flags, code: `${HANDLER}\nsay(await handler({}, {}))` })
    expect(stdout).toEqual(['answer', ...INVOKED])
  })

  it('beside the gate', async () => {
    const code = `${HANDLER}\nsay(await invoke('r1', handler))`
    const { stdout } = await run({ flags, first: CLIENT, code, variables: EMBEDDED })
    expect(stdout).toEqual([...INVOKED, 'answer'])
  })
})

describe('--permission', () => {
  // Nothing may be written, and no process started.
  const [major = 0] = process.versions.node.split('.').map(Number)
  const flags = [major >= 24 ? '--permission' : '--experimental-permission', '--no-warnings', '--allow-fs-read=*']

  it('beside the gate', async () => {
    const code = `${HANDLER}\nsay(await invoke('r1', handler))`
    const { stdout, stderr } = await run({ flags, first: CLIENT, code, variables: EMBEDDED })
    expect(stdout).toEqual([...INVOKED, 'answer'])
    expect(stderr).not.toContain('WARN_')
  })

  it.each(['internal', 'layer'])('with the companion %s, which cannot be had: the answer waits', async companion => {
    const code = `${HANDLER}\nsay(await invoke('r1', handler))`
    const variables = { ...EMBEDDED, POST_INVOKE_COMPANION: companion, POST_INVOKE_FOLDER: folder }
    const { stdout, stderr } = await run({ flags, first: CLIENT, code, variables })
    expect(stdout).toEqual([...INVOKED, 'answer'])
    expect(stderr).toContain(companion === 'internal' ? 'WARN_NOT_REGISTERED' : 'WARN_NO_LAYER')
  })

  it('with a shutdown hook, for which nothing can be registered', async () => {
    const code = `onShutdown(() => {})\n${HANDLER}\nsay(await invoke('r1', handler))`
    const { stdout, stderr } = await run({ flags, first: CLIENT, code, variables: EMBEDDED })
    expect(stdout).toEqual([...INVOKED, 'answer'])
    expect(stderr).toContain('WARN_NO_SIGTERM, no SIGTERM will come (')
  })
})

const describeWithMounts = canUnshare ? describe : describe.skip

describeWithMounts('a folder of the companion that cannot be written to', () => {
  it.each([
    ['because it is read-only', 'mount -o remount,ro "$POST_INVOKE_FOLDER"'],
    ['because it is full', 'dd if=/dev/zero of="$POST_INVOKE_FOLDER/fill" bs=4096 2>/dev/null || true'],
  ])('%s: tasks run all the same, but cannot be named later, of which is warned once', async (_, script) => {
    const mount = join(folder, 'mount')
    mkdirSync(mount, { recursive: true })
    const pipe = '"$POST_INVOKE_FOLDER/.middy-post-invoke-1-1"'
    const prepare = `mount -t tmpfs -o size=16k tmpfs "$POST_INVOKE_FOLDER" && mkfifo -m 600 ${pipe} && ${script}`
    const { stdout, stderr } = await run({
      command: [...unshare, 'sh', '-c', `${prepare} && exec "$@"`, 'sh'],
      first: `${CLIENT}
import { closeSync, constants, openSync, readSync } from 'node:fs'
const reader = openSync('${mount}/.middy-post-invoke-1-1', constants.O_RDONLY | constants.O_NONBLOCK)`,
      // The layer releases when it reads that it is settled, and the answer waits for neither.
      code: `${HANDLER}
let told = ''
const read = () => {
  const bytes = Buffer.alloc(4096)
  try { told += bytes.toString('utf8', 0, readSync(reader, bytes)) } catch {}
}
for (const id of ['r1', 'r2']) {
  say(await invoke(id, handler))
  for (let times = 0; times < 1_000 && !told.includes(id); times++) {
    await pause(10)
    read()
  }
}
say(told)
process.exit()`,
      variables: { ...EMBEDDED, POST_INVOKE_COMPANION: 'layer', POST_INVOKE_FOLDER: mount },
    })
    expect(stdout).toEqual([
      ...Array(2)
        .fill(['answer', ...INVOKED])
        .flat(),
      'open',
      expect.stringMatching(/^hold 1 \d+$/),
      'settled 1 r1',
      expect.stringMatching(/^hold 2 \d+$/),
      'settled 2 r2',
      '',
    ])
    expect(stderr.match(/WARN_\w+/g)).toEqual(['WARN_LAST_WORDS'])
  })
})

describe('a process that exits with tasks unfinished, and a pipe that is full', () => {
  const code = (fd: number) => `
${HANDLER}
import { writeSync } from 'node:fs'
const lost = middy({ timeoutEarlyInMillis: 0 })
  .use(postInvoke({ withoutCompanion: 'detach' }))
  .handler(async (event, context) => context.defer(() => new Promise(() => {}), { name: 'audit' }))
await lost({}, { awsRequestId: 'r1' })
// As Lambda's runtime client does: what the console is given is put out in its own time.
console.error = (...texts) => void process.stdout.write(texts.join(' ') + '\\n')
const stream = ${fd} === 1 ? process.stdout : process.stderr
stream._handle.setBlocking(false)
const block = Buffer.alloc(65_536, '.')
try {
  for (;;) writeSync(${fd}, block)
} catch (error) {
  if (error.code !== 'EAGAIN') throw error
}
process.exit(3)`

  it('of its output: they are named on the other, at once', async () => {
    const child = start({ code: code(1), variables: NOTHING_HOLDS })
    const closed = once(child, 'exit')
    // Nobody reads what it has put out.
    expect(await text(child.stderr as NodeJS.ReadableStream)).toBe(
      'middy-post-invoke: the process ends in the middle of request r1; unfinished: "audit"\n',
    )
    expect((await closed)[0]).toBe(3)
  })

  it('of its errors: it ends all the same', async () => {
    const child = start({ code: code(2), variables: NOTHING_HOLDS })
    expect((await once(child, 'exit'))[0]).toBe(3)
  })
})
