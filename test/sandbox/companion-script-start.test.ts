// How the companion script starts: its registration, what lies in its folder, the variables, and code of others.
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  constants,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from '@jest/globals'
import {
  answerWith,
  bundled,
  type Companion,
  IDENTIFIER,
  invoke,
  type StartOptions,
  shutdown,
  source,
} from '../support/companion-script.ts'
import { TEST_MS, useCompanions } from '../support/companion-tests.ts'
import { until } from '../unit/helpers.ts'

const tests = useCompanions()
const { start } = tests

const registered = ({ api }: Companion) => {
  const { head, body } = api.requests[0] as { head: string; body: string }
  return { name: /Lambda-Extension-Name: (.*)/.exec(head)?.[1], ...JSON.parse(body) }
}

const IS_ROOT = process.getuid?.() === 0

describe('registered', () => {
  it.each<[string, Record<string, string>, string[]]>([
    ['for both events', {}, ['INVOKE', 'SHUTDOWN']],
    ['for none, where it is switched off', { POST_INVOKE_COMPANION: 'off' }, []],
    ['for none, beside the gate', { POST_INVOKE_COMPANION: 'Embedded' }, []],
    ['for none, beside the internal extension', { POST_INVOKE_COMPANION: 'INTERNAL' }, []],
    ['for SHUTDOWN alone on Managed Instances', { AWS_LAMBDA_MAX_CONCURRENCY: '10' }, ['SHUTDOWN']],
    [
      'for SHUTDOWN alone on Managed Instances, told by the type',
      { AWS_LAMBDA_INITIALIZATION_TYPE: 'lambda-managed-instances' },
      ['SHUTDOWN'],
    ],
    [
      'for both, of another type',
      { AWS_LAMBDA_INITIALIZATION_TYPE: 'on-demand', POST_INVOKE_COMPANION: 'layer' },
      ['INVOKE', 'SHUTDOWN'],
    ],
  ])(
    'as the layer, %s',
    async (_, env, events) => {
      const companion = await start({ env })
      expect(registered(companion)).toEqual({ name: 'post-invoke.sh', events })
      expect(existsSync(companion.fifo)).toBe(events.length > 0)
      expect(companion.lines()).toEqual([])
      await companion.api.answer(shutdown)
      expect(await companion.ended).toBe(0)
    },
    TEST_MS,
  )

  it.each<['internal' | 'sigterm', string[]]>([
    ['internal', ['INVOKE']],
    ['sigterm', []],
  ])(
    'as %s: it says so once it has asked for its first event',
    async (role, events) => {
      const companion = await start({ role })
      expect(registered(companion)).toEqual({ name: 'middy-post-invoke', events })
      await until(() => companion.replies().length > 0, 'it replies')
      expect(companion.replies()).toEqual(['ready'])
      expect(existsSync(companion.fifo)).toBe(false)
    },
    TEST_MS,
  )

  it.each([
    ['in lower case', 'HTTP/1.1 200 OK\r\nlambda-extension-identifier: an-id\r\n\r\n'],
    ['without a reason', 'HTTP/1.1 200\r\nLambda-Extension-Identifier: an-id\r\n\r\n'],
    ['among others', 'HTTP/1.1 200 OK\r\nDate: today\r\nLambda-Extension-Identifier: an-id\r\nX: y\r\n\r\n{}'],
    ['of HTTP/1.0', 'HTTP/1.0 200 OK\r\nLambda-Extension-Identifier: an-id\r\n\r\n'],
    ['in capitals', 'HTTP/1.1 200 OK\r\nLAMBDA-EXTENSION-IDENTIFIER: an-id\r\nContent-Length: 0\r\n\r\n'],
    ['without a space', 'HTTP/1.1 200 OK\r\nLambda-Extension-Identifier:an-id\r\n\r\n'],
  ])(
    'by an answer whose header is written %s',
    async (_, bytes) => {
      const companion = await start({ role: 'internal', isUnregistered: true })
      const socket = await companion.api.send(bytes)
      if (!bytes.includes('Content-Length')) socket.end()
      const { head } = await companion.api.take()
      expect(head).toContain('Lambda-Extension-Identifier: an-id')
      await until(() => companion.replies().length > 0, 'it replies')
      expect(companion.replies()).toEqual(['ready'])
    },
    TEST_MS,
  )

  // The first event is asked for as soon as the identifier has been read.
  const head = 'HTTP/1.1 200 OK\r\nLambda-Extension-Identifier: an-id\r\n'
  it.each<[string, string[], boolean]>([
    ['cut behind the identifier', [head, 'Content-Length: 2\r\n\r\n{}'], false],
    ['cut in its body', [`${head}Content-Length: 6\r\n\r\n{"`, 'a":1'], false],
    ['in chunks', [`${head}Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n`], false],
    ['that closes its connection', [`${head}Connection: close\r\nContent-Length: 2\r\n\r\n{}`], true],
    ['that is cut off', [`${head}Content-Length: 2\r\n`], true],
    ['without a length', [`${head}\r\n{}`], true],
  ])(
    'by an answer %s: its first event is had all the same',
    async (_, parts, ends) => {
      for (const role of ['layer', 'internal'] as const) {
        const companion = await start({ role, isUnregistered: true })
        const { api } = companion
        const socket = await api.send(...parts)
        if (ends) {
          socket.end()
          await until(() => api.requests.at(-1)?.socket !== socket, 'it asks on another connection')
        }
        let last = await api.take()
        while (last.socket !== api.requests.at(-1)?.socket) last = await api.take()
        const { say } = companion.connect()
        last.socket.write(answerWith(invoke('r1')))
        const asked = api.asked()
        say('open', 'settled 1 r1')
        await until(() => api.asked() === asked + 1, 'it asks for the next')
        expect(companion.lines()).toEqual([])
      }
    },
    TEST_MS,
  )
})

describe('not registered', () => {
  it.each<[string, string, string]>([
    ['refused', answerWith('{}', '403 Forbidden'), '403 Forbidden'],
    ['failed', answerWith('{}', '500 Internal Server Error'), '500 Internal Server Error'],
    ['answered without an identifier', answerWith('{}'), '200 OK'],
    [
      'refused with an identifier',
      answerWith('{}', '403 Forbidden', 'Lambda-Extension-Identifier: an-id\r\n'),
      '403 Forbidden',
    ],
    ['not answered', '', 'no reply'],
  ])(
    '%s: that is told, and it ends',
    async (_, bytes, reason) => {
      const child = await start({ role: 'internal', isUnregistered: true })
      ;(await child.api.send(bytes)).end()
      expect(await child.ended).toBe(1)
      expect(child.replies()).toEqual([`failed ${reason}`])

      const layer = await start({ isUnregistered: true })
      for (let time = 1; time <= 2; time++) (await layer.api.send(bytes)).end() // a failure may pass
      expect(await layer.ended).toBe(1)
      expect(layer.lines()).toEqual([`middy-post-invoke: the companion cannot register as an extension: ${reason}`])
    },
    TEST_MS,
  )

  it.each(['', 'localhost', 'not a host:80', '127.0.0.1:1'])(
    'with nobody at the address %j',
    async address => {
      const companion = await start({
        role: 'internal',
        isUnregistered: true,
        env: { AWS_LAMBDA_RUNTIME_API: address },
      })
      expect(await companion.ended).toBe(1)
      expect(companion.replies()).toEqual(['failed no reply'])
    },
    TEST_MS,
  )

  it(
    'by an older bash, which gets one clear line',
    async () => {
      const older = (text: string) => text.replace('EPOCHREALTIME:?', 'IS_UNKNOWN_THERE:?')
      const reason = /bash 5\.0 or later is needed, this is \d+\.\d+/
      const child = await start({ role: 'internal', isUnregistered: true, script: older(bundled) })
      expect(await child.ended).not.toBe(0)
      expect(child.lines()).toEqual([expect.stringMatching(reason)])
      expect(child.replies()).toEqual([]) // the end of the file is one

      const script = join(tests.folder, 'post-invoke')
      writeFileSync(script, older(readFileSync(source, 'utf8')), { mode: 0o755 })
      const layer = await start({ isUnregistered: true, script })
      expect(await layer.ended).toBe(1)
      expect(layer.lines()).toEqual([expect.stringMatching(reason)])
    },
    TEST_MS,
  )
})

describe("what lies at the FIFO's path", () => {
  const worksAfter = async (prepare: (fifo: string) => void) => {
    const companion = await start({ prepare })
    const { mode } = lstatSync(companion.fifo)
    expect(mode & constants.S_IFMT).toBe(constants.S_IFIFO)
    expect(mode & 0o777).toBe(0o600)
    const { say } = companion.connect()
    await companion.api.answer(invoke('r1'))
    say('open', 'settled 1 r1')
    await until(() => companion.api.asked() === 2, 'it has heard that')
    expect(companion.lines()).toEqual([])
  }

  it('nothing', () => worksAfter(() => {}), TEST_MS)

  it(
    'a FIFO of an environment that is gone, with a reader that is not: it gets nothing',
    async () => {
      let other = 0
      await worksAfter(fifo => {
        execFileSync('mkfifo', [fifo])
        other = openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK)
      })
      expect(readFileSync(other, 'utf8')).toBe('')
    },
    TEST_MS,
  )

  it('a plain file', () => worksAfter(fifo => writeFileSync(fifo, 'settled 1 r1\n')), TEST_MS)

  it(
    'a symbolic link, to a FIFO or to nothing: what it leads to is left alone',
    async () => {
      const target = join(tests.folder, 'target')
      execFileSync('mkfifo', [target])
      await worksAfter(fifo => symlinkSync(target, fifo))
      expect(existsSync(target)).toBe(true)
      await worksAfter(fifo => symlinkSync(join(tests.folder, 'nothing'), fifo))
    },
    TEST_MS,
  )

  const NO_FIFO = /^middy-post-invoke: no FIFO can be made at \S+: nothing is held$/

  /** It says so once, and releases each event. */
  const holdsNothing = async (options: StartOptions) => {
    const companion = await start(options)
    for (let number = 1; number <= 3; number++) {
      await companion.api.answer(invoke(`r${number}`))
      await until(() => companion.api.asked() === number + 1, 'it releases it')
    }
    expect(companion.lines()).toEqual([expect.stringMatching(NO_FIFO)])
    await companion.api.answer(shutdown)
    expect(await companion.ended).toBe(0)
  }

  it('a folder: nothing is held', () => holdsNothing({ prepare: fifo => mkdirSync(fifo) }), TEST_MS)

  it(
    'no folder to be in: nothing is held',
    () => holdsNothing({ env: { POST_INVOKE_FOLDER: join(tests.folder, 'nowhere') } }),
    TEST_MS,
  )

  it(
    'a path that is not absolute: nothing is held',
    () => holdsNothing({ env: { POST_INVOKE_FOLDER: 'relative' } }),
    TEST_MS,
  )

  /** Runs the script as another user, or with a file system of its own: both take root. */
  const wrapped = (line: string) => {
    const script = join(tests.folder, 'post-invoke')
    writeFileSync(script, `#!/bin/sh\n${line}\n`, { mode: 0o755 })
    chmodSync(tests.folder, 0o755)
    return script
  }

  const asRoot = IS_ROOT ? it : it.skip

  asRoot(
    'a FIFO of another user in a sticky folder: it is left alone, and nothing is held',
    () => {
      const other = 65_533
      const shared = join(tests.folder, 'tmp')
      const copy = join(tests.folder, 'copy')
      writeFileSync(copy, readFileSync(source), { mode: 0o755 })
      mkdirSync(shared)
      chmodSync(shared, 0o1777)
      return holdsNothing({
        folder: shared,
        script: wrapped(`exec setpriv --reuid=65534 --regid=65534 --clear-groups /bin/bash -p ${copy}`),
        prepare: fifo => {
          execFileSync('mkfifo', [fifo])
          chownSync(fifo, other, other)
          chmodSync(fifo, 0o666)
        },
      })
    },
    TEST_MS,
  )

  asRoot(
    'a folder that is read-only: nothing is held',
    () =>
      holdsNothing({
        env: { POST_INVOKE_FOLDER: join(tests.folder, 'mount'), WHERE: join(tests.folder, 'mount') },
        script: wrapped(
          `mkdir -p $WHERE; exec unshare -m /bin/sh -c 'mount -t tmpfs -o ro none $WHERE && exec /bin/bash -p ${source}'`,
        ),
      }),
    TEST_MS,
  )

  asRoot(
    'a folder that is full: nothing is held',
    () =>
      holdsNothing({
        env: { POST_INVOKE_FOLDER: join(tests.folder, 'mount'), WHERE: join(tests.folder, 'mount') },
        script: wrapped(
          `mkdir -p $WHERE; exec unshare -m /bin/sh -c 'mount -t tmpfs -o nr_inodes=1 none $WHERE && exec /bin/bash -p ${source}'`,
        ),
      }),
    TEST_MS,
  )
})

describe('what it says itself', () => {
  it.each<[string, Record<string, string>, number]>([
    ['as text', {}, 1],
    ['where the level is ERROR', { AWS_LAMBDA_LOG_LEVEL: 'error', POST_INVOKE_LOG_LEVEL: 'ERROR' }, 1],
    ['where the level is unknown', { AWS_LAMBDA_LOG_LEVEL: 'unknown' }, 1],
    ['not where the level is FATAL', { AWS_LAMBDA_LOG_LEVEL: 'FATAL' }, 0],
    ['not where the level is SILENT', { POST_INVOKE_LOG_LEVEL: 'silent' }, 0],
  ])(
    '%s',
    async (_, env, count) => {
      const companion = await start({ env: { POST_INVOKE_FOLDER: '/nowhere', ...env } })
      await companion.api.answer(shutdown)
      await companion.ended
      expect(companion.lines()).toHaveLength(count)
    },
    TEST_MS,
  )

  it.each(['JSON', 'Json'])(
    'is one object a line where the format is %s',
    async format => {
      const env = { POST_INVOKE_FOLDER: '/no"where\\', AWS_LAMBDA_LOG_FORMAT: format, TZ: 'Asia/Tokyo' }
      const companion = await start({ env })
      await companion.api.answer(shutdown)
      await companion.ended
      expect(companion.lines().map(line => JSON.parse(line))).toEqual([
        {
          timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
          level: 'ERROR',
          message: expect.stringMatching(/^middy-post-invoke: no FIFO can be made at \/nowhere\//),
        },
      ])
    },
    TEST_MS,
  )
})

describe('code of others', () => {
  /** A start-up file that leaves a mark where it is run. */
  const pollute = () => {
    const mark = join(tests.folder, 'was-here')
    const file = join(tests.folder, '.bashrc')
    writeFileSync(file, `echo polluted >${JSON.stringify(mark)}\n`)
    return { env: { BASH_ENV: file, ENV: file, HOME: tests.folder }, wasRun: () => existsSync(mark) }
  }

  it('in BASH_ENV is run by a bash without -p: this test would notice', async () => {
    const { env, wasRun } = pollute()
    await once(spawn('/bin/bash', ['-c', ':'], { env, stdio: 'ignore' }), 'close')
    expect(wasRun()).toBe(true)
  })

  it.each(['layer', 'internal'] as const)(
    'in BASH_ENV or ~/.bashrc is not run by ours (%s)',
    async role => {
      const { env, wasRun } = pollute()
      const companion = await start({ role, env })
      expect(companion.api.requests[1]?.head).toContain(IDENTIFIER)
      expect(wasRun()).toBe(false)
    },
    TEST_MS,
  )

  it(
    'as exported functions is not run either',
    async () => {
      const names = ['printf', 'read', 'exec', 'kill', 'wait', 'command', 'hash']
      const companion = await start({
        env: Object.fromEntries(names.map(name => [`BASH_FUNC_${name}%%`, '() { echo polluted; exit 7; }'])),
      })
      expect(companion.lines()).toEqual([])
    },
    TEST_MS,
  )
})

describe('the text that functions bundle', () => {
  it('has neither comments nor what is for the layer alone, and is short', () => {
    expect(bundled).not.toMatch(/^\s*#|mkfifo|worker|coproc|SHUTDOWN/m)
    expect(bundled).toContain('POST register')
    expect(bundled.length).toBeLessThan(3_300)
  })

  it('can be parsed by bash', () => {
    execFileSync('/bin/bash', ['-n', '-c', bundled])
    execFileSync('/bin/bash', ['-n', source])
  })
})

it(
  'the layer has nothing open but what it needs',
  async () => {
    const companion = await start()
    const open = () => {
      const links = readdirSync(`/proc/${companion.pid}/fd`).map(fd => readlinkSync(`/proc/${companion.pid}/fd/${fd}`))
      return [
        links.filter(link => link.startsWith('socket:')).length,
        links.filter(link => link === companion.fifo).length,
      ]
    }
    // The Extensions API and standard error, once nothing is being written; and the end of the FIFO that is read from.
    await until(() => open().join() === '2,1', 'it has two sockets and one end of the FIFO')
  },
  TEST_MS,
)
