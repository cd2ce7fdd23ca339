// The companion script and its worker: when there is one, what it is told, and what becomes of one that fails.
import { copyFileSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from '@jest/globals'
import {
  type Companion,
  IDENTIFIER,
  inAMinute,
  invoke,
  type StartOptions,
  shutdown,
  source,
  startCompanion,
} from '../support/companion-script.ts'
import { TEST_MS, useCompanions } from '../support/companion-tests.ts'
import { until } from '../unit/helpers.ts'

const tests = useCompanions()

/** A worker that writes down what it is told, and answers as `answer` says, a piece of JavaScript. */
const worker = (answer: string) => `
  const { appendFileSync, readdirSync, readlinkSync, writeSync } = require('node:fs')
  const tell = text => appendFileSync(${JSON.stringify(join(tests.folder, 'told'))}, text + '\\n')
  const done = number => writeSync(3, number + '\\n')
  tell('started ' + process.pid)
  console.log('1\\ndone')
  console.error('2\\ndone')
  require('node:readline').createInterface({ input: process.stdin }).on('line', line => {
    tell(line)
    const [number, kind] = line.split(' ')
    ${answer}
  }).on('close', () => process.exit())`

const spool = () => join(tests.folder, 'spool')
const entry = (due: number | string, name = 'a') => {
  mkdirSync(spool(), { recursive: true })
  writeFileSync(join(spool(), `${due}-${name}.json`), '')
}

const start = async (answer: string, options: StartOptions = {}) => {
  const script = join(tests.folder, 'opt/extensions/post-invoke')
  mkdirSync(dirname(script), { recursive: true })
  mkdirSync(join(tests.folder, 'opt/post-invoke'))
  copyFileSync(source, script)
  writeFileSync(join(tests.folder, 'opt/post-invoke/worker.cjs'), worker(answer))
  const companion = await startCompanion(tests.cleanUp, {
    ...options,
    script,
    env: { POST_INVOKE_SPOOL: spool(), ...options.env },
  })
  return companion
}

/** What workers were told, without the numbers of lines and processes; times are T. */
const told = () => {
  try {
    return readFileSync(join(tests.folder, 'told'), 'utf8')
      .trim()
      .split('\n')
      .map(line => line.replace(/^\d+ |(?<=^started) .*/g, '').replace(/\b\d{13,}\b/g, 'T'))
  } catch {
    return []
  }
}

const own = (companion: Companion) => companion.lines().filter(line => line.startsWith('middy-post-invoke: '))

/** The environment ends: Lambda has ended the function's process before. */
const ends = async (companion: Companion, end = () => {}) => {
  end()
  await companion.api.answer(shutdown)
  expect(await companion.ended).toBe(0)
}

/** One invocation, from INVOKE to its release. */
const invokeOnce = async (companion: Companion, say: (line: string) => void, number: number) => {
  await companion.api.answer(invoke(`r${number}`))
  say(`settled ${number} r${number}`)
  await until(() => companion.api.asked() > number, 'it releases it')
}

describe('handed-off work', () => {
  it(
    'is run when it is due, in the time of an invocation that has settled, and at the end',
    async () => {
      const companion = await start('done(number)')
      const { say, end } = companion.connect()
      say('open', 'work')
      await invokeOnce(companion, say, 1)
      expect(told()).toEqual([])
      entry(Date.now() - 1)
      await invokeOnce(companion, say, 2)
      await invokeOnce(companion, say, 3)
      expect(told()).toEqual(['started', 'run T', 'run T'])
      await ends(companion, end)
      expect(told().slice(3)).toEqual(['last T'])
      expect(own(companion)).toEqual([])
      expect(companion.lines()).toEqual(['1', 'done', '2', 'done']) // the worker's own output is log
    },
    TEST_MS,
  )

  it(
    'is run by another worker where the first has died with nothing to do',
    async () => {
      const companion = await start('done(number)')
      const { say } = companion.connect()
      say('open', 'work')
      entry(Date.now() - 1)
      await invokeOnce(companion, say, 1)
      const pid = Number(/started (\d+)/.exec(readFileSync(join(tests.folder, 'told'), 'utf8'))?.[1])
      process.kill(pid, 'SIGKILL')
      // All of its threads: until the last has ended, its end of the pipe is open.
      await until(() => readdirSync(`/proc/${pid}/task`).length === 1, 'its threads have ended')
      await until(() => readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z '), 'the worker is dead')
      await invokeOnce(companion, say, 2)
      expect(told()).toEqual(['started', 'run T', 'started', 'run T'])
      expect(own(companion)).toHaveLength(1)
    },
    TEST_MS,
  )

  it(
    'is found behind a file that others have left in the spool',
    async () => {
      const companion = await start('done(number)')
      const { say } = companion.connect()
      say('open', 'work')
      entry(1, 'a')
      entry(Date.now() - 1)
      await invokeOnce(companion, say, 1)
      expect(told()).toEqual(['started', 'run T'])
    },
    TEST_MS,
  )

  it.each<[string, () => void]>([
    ['there is none', () => {}],
    ['the folder is empty', () => mkdirSync(spool())],
    ['the folder is a file', () => writeFileSync(spool(), '')],
    ['it is due later', () => entry(Date.now() + 60_000)],
    ['it has been set aside', () => entry('corrupt')],
    ['its name is no time', () => entry('12')],
    ['its name is no number', () => entry('1x34567890123')],
  ])(
    'starts no worker where %s',
    async (_, prepare) => {
      const companion = await start('done(number)')
      const { say } = companion.connect()
      prepare()
      say('open', 'work')
      await invokeOnce(companion, say, 1)
      expect(told()).toEqual([])
      expect(own(companion)).toEqual([])
    },
    TEST_MS,
  )

  it(
    'is not looked for where the function hands nothing off',
    async () => {
      const companion = await start('done(number)')
      const { say, end } = companion.connect()
      entry('0000000000001')
      say('open')
      await invokeOnce(companion, say, 1)
      await ends(companion, end)
      expect(told()).toEqual([])
    },
    TEST_MS,
  )

  it(
    'that is due later is told of at the end, and that of a function that is gone is run then',
    async () => {
      const companion = await start('done(number)')
      const { say, end } = companion.connect()
      say('open', 'work')
      await invokeOnce(companion, say, 1)
      entry(Date.now() + 60_000)
      await companion.api.answer(invoke('r2'))
      end()
      await until(() => companion.api.asked() === 3, 'it releases it')
      await ends(companion)
      expect(told()).toEqual(['started', 'last T'])
    },
    TEST_MS,
  )

  it(
    'on Managed Instances is run at the end, which is the only event there',
    async () => {
      const companion = await start('done(number)', { env: { AWS_LAMBDA_MAX_CONCURRENCY: '2' } })
      const { say, end } = companion.connect()
      say('open', 'work')
      entry(Date.now())
      end()
      await ends(companion)
      expect(told()).toEqual(['started', 'last T'])
    },
    TEST_MS,
  )

  it(
    'holds no longer than until the deadline: a late worker is ended, and its answer is no answer to the next line',
    async () => {
      const companion = await start("if (kind === 'run' && number < 2) setTimeout(() => {}, 1e6); else done(number)")
      const { say } = companion.connect()
      say('open', 'work')
      entry(Date.now())
      await companion.api.answer(invoke('r1', Date.now() + 4_000)) // a busy machine takes its time to start it
      say('settled 1 r1')
      await until(() => companion.api.asked() === 2, 'it releases it')
      expect(own(companion)).toEqual([expect.stringMatching(/: the worker has ended or was late/)])
      await invokeOnce(companion, say, 2)
      expect(told()).toEqual(['started', 'run T', 'started', 'run T'])
    },
    TEST_MS,
  )

  it(
    'survives the death of a worker, which is said once, but not that of any number',
    async () => {
      const companion = await start('process.exit(7)')
      const { say } = companion.connect()
      say('open', 'work')
      entry(Date.now())
      for (let number = 1; number <= 7; number++) await invokeOnce(companion, say, number)
      expect(told()).toEqual(Array.from({ length: 4 }, () => ['started', 'run T']).flat())
      expect(own(companion)).toHaveLength(1)
    },
    TEST_MS,
  )

  it(
    'is not run by what was preloaded for the function, and its worker inherits neither the connection nor the FIFO',
    async () => {
      const companion = await start(
        `tell('options: ' + process.env.NODE_OPTIONS)
         const links = readdirSync('/proc/self/fd').flatMap(fd => {
           try { return [readlinkSync('/proc/self/fd/' + fd)] } catch { return [] }
         })
         tell('FIFOs: ' + links.filter(link => link.includes('.middy-post-invoke-')).length)
         tell('sockets: ' + new Set(links.filter(link => link.startsWith('socket:'))).size)
         done(number)`,
        { env: { NODE_OPTIONS: '--require /nowhere' } },
      )
      const { say } = companion.connect()
      say('open', 'work')
      entry(Date.now())
      await invokeOnce(companion, say, 1)
      // One socket: the log, as this test has made it.
      expect(told()).toEqual(['started', 'run T', 'options: undefined', 'FIFOs: 0', 'sockets: 1'])
    },
    TEST_MS,
  )

  it(
    'waits, and that is said, where there is no Node.js',
    async () => {
      const bin = join(tests.folder, 'bin')
      mkdirSync(bin)
      symlinkSync('/bin/bash', join(bin, 'bash'))
      const companion = await start('', { env: { PATH: bin } })
      const { say } = companion.connect()
      say('open', 'work')
      entry(Date.now())
      for (let number = 1; number <= 2; number++) await invokeOnce(companion, say, number)
      expect(own(companion)).toEqual([
        'middy-post-invoke: handed-off work waits: it needs Node.js, and there is none on PATH nor at /var/lang/bin/node',
      ])
    },
    TEST_MS,
  )
})

describe('a command', () => {
  const env = { POST_INVOKE_COMMAND: 'true' }

  it(
    'is told of each invocation: that it has settled, that nobody takes part, that time was up; and of the end',
    async () => {
      const companion = await start('done(number)', { env })
      expect(told()).toEqual(['started', 'start'])
      await companion.api.answer(invoke('of others'))
      await until(() => companion.api.asked() === 2, 'it releases it')
      const { say, end } = companion.connect()
      say('open')
      await companion.api.answer(invoke('"r1"\n'))
      say('settled 1 ')
      await until(() => companion.api.asked() === 3, 'it releases it')
      await companion.api.answer(invoke('r2'))
      say('hold 2 1000')
      await until(() => companion.api.asked() === 4, 'it releases it')
      await ends(companion, end)
      expect(
        told()
          .slice(2)
          .map(line => line.replace(/\{.*\}/, event => JSON.parse(event.replace(/\bT\b/g, '0')).requestId)),
      ).toEqual(['after T 0 of others', 'after T 1 "r1"\n', 'after T 0 r2', 'last T'])
    },
    TEST_MS,
  )

  it(
    'that is late is ended before the deadline',
    async () => {
      const companion = await start("if (kind !== 'after') done(number)", { env })
      await companion.api.answer(invoke('r1', Date.now() + 600))
      await until(() => companion.api.asked() === 2, 'it releases it')
      expect(own(companion)).toHaveLength(1)
    },
    TEST_MS,
  )

  it(
    'never runs on Managed Instances, which is said, nor where the companion is switched off',
    async () => {
      const managed = await start('done(number)', { env: { ...env, AWS_LAMBDA_MAX_CONCURRENCY: '2' } })
      expect(own(managed)).toEqual([expect.stringContaining('POST_INVOKE_COMMAND never runs on Managed Instances')])
      await ends(managed)
      expect(told()).toEqual([])
    },
    TEST_MS,
  )
})

describe('the worker as it is built', () => {
  const built = fileURLToPath(new URL('../../dist/layer/post-invoke/', import.meta.url))

  /** With a runner of our own. */
  const startBuilt = async (runner: string, options: StartOptions = {}) => {
    const companion = await start('', options)
    copyFileSync(join(built, 'worker.cjs'), join(tests.folder, 'opt/post-invoke/worker.cjs'))
    writeFileSync(
      join(tests.folder, 'opt/post-invoke/runner.cjs'),
      `exports.createRunner = options => ({ run: ${runner} })`,
    )
    return companion
  }

  it(
    'has the runner run what is due until a moment before the end',
    async () => {
      const companion = await startBuilt(`async (deadline, isLast) => {
        console.log(JSON.stringify({ ...options, log: undefined, left: Math.round((deadline - Date.now()) / 1e4), isLast, env: process.env.POST_INVOKE_EXTENSION_IDENTIFIER }))
        process.stdout.write('9\\n')
      }`)
      const { say, end } = companion.connect()
      say('open', 'work')
      entry(Date.now())
      await invokeOnce(companion, say, 1)
      process.kill(companion.pid, 'SIGTERM')
      await ends(companion, end)
      const seen = companion.lines().filter(line => line.startsWith('{'))
      expect(seen.map(line => JSON.parse(line))).toEqual(
        [false, true].map(isLast => ({ spool: spool(), isolatesJobs: true, left: 6, isLast, env: IDENTIFIER })),
      )
      expect(own(companion)).toEqual([])
    },
    TEST_MS,
  )

  it.each([
    ['fails', "async () => { throw new Error('broken') }"],
    ['throws', "() => { throw new Error('broken') }"],
  ])(
    'says so where its runner %s, and goes on',
    async (_, runner) => {
      const companion = await startBuilt(runner)
      const { say } = companion.connect()
      say('open', 'work')
      entry(Date.now())
      for (let number = 1; number <= 2; number++) await invokeOnce(companion, say, number)
      expect(own(companion)).toHaveLength(2)
      expect(own(companion)[0]).toContain('handed-off work waits in the spool')
    },
    TEST_MS,
  )

  it(
    'writes its log as JSON where that is the format, with errors as fields',
    async () => {
      const env = { AWS_LAMBDA_LOG_FORMAT: 'JSON' }
      const companion = await startBuilt("async () => { throw new TypeError('broken') }", { env })
      const { say } = companion.connect()
      say('open', 'work')
      entry(Date.now())
      await invokeOnce(companion, say, 1)
      expect(companion.lines().map(line => JSON.parse(line))).toEqual([
        {
          timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
          level: 'ERROR',
          message: expect.stringContaining('handed-off work waits in the spool'),
          errorType: 'TypeError',
          errorMessage: 'broken',
          stackTrace: expect.any(Array),
        },
      ])
    },
    TEST_MS,
  )

  it(
    'releases before the deadline though its runner does not end',
    async () => {
      const companion = await startBuilt('() => new Promise(() => {})')
      const { say } = companion.connect()
      say('open', 'work')
      entry(Date.now())
      await companion.api.answer(invoke('r1', Date.now() + 1_000))
      say(`hold 1 ${inAMinute()}`, 'settled 1 r1')
      await until(() => companion.api.asked() === 2, 'it releases it')
    },
    TEST_MS,
  )
})
