// The companion script by itself: what it does with each line of the function's process and each answer of the API.
import { describe, expect, it } from '@jest/globals'
import { answerWith, type Companion, IDENTIFIER, inAMinute, invoke, shutdown } from '../support/companion-script.ts'
import { beside, type Start, TEST_MS } from '../support/companion-tests.ts'
import { until } from '../unit/helpers.ts'

/** It has asked for so many events, and for no more. */
const asks = async ({ api }: Companion, count: number) => {
  await until(() => api.asked() >= count, `it asks for event ${count}`)
  expect(api.asked()).toBe(count)
}

/** It holds: it asks for nothing. So long we look; one that does ask is seen for certain only after that. */
const holds = async ({ api }: Companion, count: number) => {
  await new Promise(resolve => setTimeout(resolve, 60))
  expect(api.asked()).toBe(count)
}

/** The event of the first invocation is lost with its connection: it asks for one on another, and is waiting for it now. */
const loseFirst = async ({ api }: Companion, say: (...lines: string[]) => void, begin = 'r1') => {
  await api.cut()
  say('open', `settled 1 ${begin}`)
  await until(() => api.asked() === 2, 'it asks on another connection')
}

const GONE = 'middy-post-invoke: the process is gone; unfinished: "audit"'
const LATE = 'middy-post-invoke: time is up; unfinished: "audit"'

describe.each(['layer', 'internal'] as const)('the lines of the function, to the %s extension', role => {
  it.concurrent(
    'hold and settled: the next event is asked for when the invocation has settled',
    beside(async ({ start }) => {
      const companion = await start({ role })
      const { say } = companion.connect()
      say('open')
      for (let number = 1; number <= 3; number++) {
        await companion.api.answer(invoke(`r${number}`))
        say(`hold ${number} ${inAMinute()}`)
        await holds(companion, number)
        say(`settled ${number} r${number}`)
        await asks(companion, number + 1)
      }
      expect(companion.lines()).toEqual([])
      expect(companion.replies()).toEqual(role === 'layer' ? [] : ['ready'])
    }),
    TEST_MS,
  )

  it.concurrent(
    'settled before the event has come',
    beside(async ({ start }) => {
      const companion = await start({ role })
      const { say } = companion.connect()
      say('open', 'settled 1 r1')
      await holds(companion, 1)
      await companion.api.answer(invoke('r1'))
      await asks(companion, 2)
      await companion.api.answer(invoke('r2'))
      await holds(companion, 2)
      say('settled 2 r2')
      await asks(companion, 3)
    }),
    TEST_MS,
  )

  it.concurrent(
    'settled twice, or too late, is ignored',
    beside(async ({ start }) => {
      const companion = await start({ role })
      const { say } = companion.connect()
      await companion.api.answer(invoke('r1'))
      say('open', 'settled 1 r1', 'settled 1 r1', 'settled 1 r1')
      await asks(companion, 2)
      await companion.api.answer(invoke('r1')) // Lambda's retries carry the same request id
      say('settled 1 r1', 'hold 1 1')
      await holds(companion, 2)
      say('settled 2 r1')
      await asks(companion, 3)
    }),
    TEST_MS,
  )

  it.concurrent(
    'hold is released before its deadline, which is logged, and the late settled is ignored',
    beside(async ({ start }) => {
      const companion = await start({ role })
      const { say } = companion.connect()
      companion.writeLastWords(GONE, LATE)
      await companion.api.answer(invoke('r1'))
      say('open', `hold 1 ${Date.now() + 150}`)
      await asks(companion, 2)
      expect(companion.lines()).toEqual([LATE])
      await companion.api.answer(invoke('r2'))
      say('settled 1 r1')
      await holds(companion, 2)
      say('settled 2 r2')
      await asks(companion, 3)
    }),
    TEST_MS,
  )

  it.concurrent(
    'other lines do not put off the end of a hold',
    beside(async ({ start, cleanUp }) => {
      const companion = await start({ role })
      const { say } = companion.connect()
      await companion.api.answer(invoke('r1'))
      say('open', `hold 1 ${Date.now() + 600}`)
      const timer = setInterval(() => say('settled 0 x', 'whatever'), 50)
      cleanUp.defer(() => clearInterval(timer))
      await asks(companion, 2)
    }),
    TEST_MS,
  )

  it.concurrent(
    'a deadline that has passed, and nothing written since: it is released at once',
    beside(async ({ start }) => {
      const companion = await start({ role })
      await companion.api.answer(invoke('r1'))
      companion.connect().say('open', 'hold 1 1000')
      await asks(companion, 2)
    }),
    TEST_MS,
  )

  it.concurrent(
    'what is no line of ours is ignored, and is never evaluated',
    beside(async ({ start }) => {
      const companion = await start({ role })
      const { say } = companion.connect()
      await companion.api.answer(invoke('r1'))
      say(
        'open',
        '',
        'nonsense',
        'settled',
        'settled 0 r1',
        'settled -1 r1',
        'settled 01 r1',
        'settled 1x r1',
        'settled a[$(kill $$)] r1',
        'settled 99999999999999999999 r1',
        `hold 1 a[$(kill $$)]`,
        'hold $(kill $$) 1000',
        'hold 1',
        'hold 1 0',
        'SETTLED 1 r1',
        'settled\\ 1 r1',
      )
      await holds(companion, 1)
      say('settled 1 r1')
      await asks(companion, 2)
      expect(companion.lines()).toEqual([])
    }),
    TEST_MS,
  )

  it.concurrent.each(['r-1', '8476a536-e9f4'])(
    'the event after one that was lost with a connection is not released for it (start of the id: %j)',
    beside(async ({ start }, begin) => {
      const companion = await start({ role })
      const { say } = companion.connect()
      await loseFirst(companion, say, begin)
      await companion.api.answer(invoke('of the second one'))
      await holds(companion, 2)
      say('settled 2 of')
      await asks(companion, 3)
    }),
    TEST_MS,
  )

  it.concurrent.each([
    '"quoted"',
    "it's",
    'back\\slash',
    '$(kill $$)',
    '`kill $$`',
    '*',
    '"eventType":"SHUTDOWN"',
    'SHUTDOWN',
    'é',
  ])(
    'request ids may hold anything: %j',
    beside(async ({ start }, requestId) => {
      const companion = await start({ role })
      const { say } = companion.connect()
      say('open')
      for (let number = 1; number <= 2; number++) {
        await companion.api.answer(invoke(requestId))
        say(`settled ${number} ${/^[A-Za-z0-9-]*/.exec(requestId)?.[0]}`)
        await asks(companion, number + 1)
      }
    }),
    TEST_MS,
  )

  it.concurrent(
    'a line that is cut in two is one line',
    beside(async ({ start }) => {
      const companion = await start({ role: 'internal' })
      await companion.api.answer(invoke('r1'))
      const socket = companion.process.stdio[3] as unknown as { write(text: string): void }
      for (const part of ['op', 'en\nsett', 'led 1', ' r1', '\n']) {
        socket.write(part)
        await new Promise(resolve => setTimeout(resolve, 10))
      }
      await asks(companion, 2)
    }),
    TEST_MS,
  )

  it.concurrent(
    'watch: each event is read at once, and held until its deadline where nothing is told of it',
    beside(async ({ start }) => {
      const companion = await start({ role })
      const { say } = companion.connect()
      say('watch')
      await companion.api.answer(invoke('r1', Date.now() + 300))
      await asks(companion, 2)
      await companion.api.answer(invoke('r2'))
      await holds(companion, 2)
      say('settled 1 r1') // of the one before, too late
      await holds(companion, 2)
      say('settled 2 r2')
      await asks(companion, 3)
      await companion.api.answer(invoke('r3'))
      say(`hold 3 ${Date.now() + 200}`)
      await asks(companion, 4)
    }),
    TEST_MS,
  )

  it.concurrent(
    'watch, told with an event in hand',
    beside(async ({ start }) => {
      const companion = await start({ role })
      const { say } = companion.connect()
      await loseFirst(companion, say, 'lost')
      await companion.api.answer(invoke('r2'))
      await holds(companion, 2)
      say('watch', 'settled 2 r2')
      await asks(companion, 3)
      await companion.api.answer(invoke('r3', Date.now() + 200))
      await asks(companion, 4)
    }),
    TEST_MS,
  )
})

describe('the layer, as functions come and go', () => {
  it.concurrent(
    'releases each event of a function that takes no part',
    beside(async ({ start }) => {
      const companion = await start()
      for (let number = 1; number <= 3; number++) {
        await companion.api.answer(invoke(`r${number}`))
        await asks(companion, number + 1)
      }
      expect(companion.lines()).toEqual([])
    }),
    TEST_MS,
  )

  it.concurrent(
    'holds for one that takes part from its second invocation on',
    beside(async ({ start }) => {
      const companion = await start()
      await companion.api.answer(invoke('r1'))
      await asks(companion, 2)
      const { say } = companion.connect()
      say('open', 'settled 1 r1')
      await companion.api.answer(invoke('r2'))
      await holds(companion, 2)
      say('settled 2 r2')
      await asks(companion, 3)
    }),
    TEST_MS,
  )

  it.concurrent(
    'counts anew for the process after the one that is gone, and says nothing where nothing was lost',
    beside(async ({ start }) => {
      const companion = await start()
      const first = companion.connect()
      for (let number = 1; number <= 2; number++) {
        await companion.api.answer(invoke(`r${number}`))
        first.say(number === 1 ? 'open' : 'more', `settled ${number} r${number}`)
        await asks(companion, number + 1)
      }
      first.end()
      await companion.api.answer(invoke('r3'))
      await asks(companion, 4)
      const second = companion.connect()
      second.say('open')
      await companion.api.answer(invoke('r4'))
      await holds(companion, 4)
      second.say('settled 1 r4')
      await asks(companion, 5)
      expect(companion.lines()).toEqual([])
    }),
    TEST_MS,
  )
})

describe('last words', () => {
  const killed = async (
    start: Start,
    role: 'layer' | 'internal' | 'sigterm',
    env: Record<string, string> = {},
    gone = GONE,
  ) => {
    const companion = await start({ role, env })
    const { say, end } = companion.connect()
    if (role !== 'sigterm') {
      await companion.api.answer(invoke('r1'))
      say('open', `hold 1 ${inAMinute()}`)
    }
    companion.writeLastWords(gone, LATE)
    await new Promise(resolve => setTimeout(resolve, 30))
    process.kill(companion.pid, 'SIGTERM') // as the emulator does
    end()
    await until(() => companion.lines().length > 0, 'it says so')
    return companion
  }

  it.concurrent(
    'of a process that is gone are logged once, and the environment is released',
    beside(async ({ start }) => {
      const companion = await killed(start, 'layer')
      await asks(companion, 2)
      await companion.api.answer(shutdown)
      expect(await companion.ended).toBe(0)
      expect(companion.lines()).toEqual([GONE])
    }),
    TEST_MS,
  )

  it.concurrent.each(['internal', 'sigterm'] as const)(
    'are logged by the %s extension, which ends then',
    beside(async ({ start }, role) => {
      const companion = await killed(start, role)
      expect(await companion.ended).toBe(0)
      expect(companion.lines()).toEqual([GONE])
    }),
    TEST_MS,
  )

  it.concurrent.each(['layer', 'internal', 'sigterm'] as const)(
    'in JSON get the time (%s)',
    beside(async ({ start }, role) => {
      const { lines } = await killed(
        start,
        role,
        { AWS_LAMBDA_LOG_FORMAT: 'JSON', TZ: 'Asia/Tokyo' },
        '{"level":"ERROR","a":"}"}',
      )
      const { timestamp, ...rest } = JSON.parse(lines()[0] as string)
      expect(rest).toEqual({ level: 'ERROR', a: '}' })
      expect(timestamp).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
      expect(Math.abs(Date.parse(timestamp) - Date.now())).toBeLessThan(TEST_MS)
    }),
    TEST_MS,
  )

  it.concurrent(
    'are logged at SHUTDOWN, with the process still there',
    beside(async ({ start }) => {
      const companion = await start()
      const { say } = companion.connect()
      await companion.api.answer(invoke('r1'))
      say('open', 'settled 1 r1')
      await asks(companion, 2)
      companion.writeLastWords(GONE)
      say('settled 2 r2')
      await companion.api.answer(shutdown)
      expect(await companion.ended).toBe(0)
      expect(companion.lines()).toEqual([GONE])
    }),
    TEST_MS,
  )

  it.concurrent.each(['layer', 'internal'] as const)(
    'of an environment or a process that is gone are not those of this one (%s)',
    beside(async ({ start }, role) => {
      const { readFileSync, writeFileSync } = await import('node:fs')
      const companion = await start({ role, prepare: fifo => writeFileSync(`${fifo}.tasks`, `${GONE}\n\n`) })
      expect(readFileSync(companion.tasks, 'utf8')).toBe('')
      if (role === 'layer') await companion.api.answer(shutdown)
      else companion.connect().end()
      expect(await companion.ended).toBe(0)
      expect(companion.lines()).toEqual([])
    }),
    TEST_MS,
  )

  it.concurrent.each([
    ['of another kind: a folder', 'mkdir "$1"'],
    ['of another kind: a FIFO that would be waited for', 'mkfifo "$1"'],
    ['a symbolic link', `echo "${GONE}" >"$1.real"; ln -s "$1.real" "$1"`],
  ])(
    'are not read from what is %s',
    beside(async ({ start }, _, command) => {
      const { execFileSync } = await import('node:child_process')
      const companion = await start()
      const { say, end } = companion.connect()
      await companion.api.answer(invoke('r1'))
      say('open', `hold 1 ${inAMinute()}`)
      execFileSync('/bin/sh', ['-c', command, 'sh', companion.tasks])
      end()
      await asks(companion, 2)
      await companion.api.answer(shutdown)
      expect(await companion.ended).toBe(0)
      expect(companion.lines()).toEqual([])
    }),
    TEST_MS,
  )

  it.concurrent(
    'are logged, not those for when time is up, where the process is gone when time is up',
    beside(async ({ start }) => {
      const companion = await start({ role: 'internal' })
      const { say, end } = companion.connect()
      companion.writeLastWords(GONE, LATE)
      await companion.api.answer(invoke('r1'))
      await new Promise(resolve => setTimeout(resolve, 30))
      process.kill(companion.pid, 'SIGSTOP')
      say('open', `hold 1 ${Date.now() + 101}`)
      await new Promise(resolve => setTimeout(resolve, 50))
      end()
      await new Promise(resolve => setTimeout(resolve, 20))
      process.kill(companion.pid, 'SIGCONT')
      expect(await companion.ended).toBe(0)
      expect(companion.lines()).toEqual([GONE])
    }),
    TEST_MS,
  )
})

/** In one `describe`, so that all of them run beside each other: some wait for seconds until the script has given up. */
const answers = (role: 'layer' | 'internal') => {
  const event = JSON.stringify(invoke('r1'))
  const whole = answerWith(event)
  const bodyAt = whole.indexOf('{')
  const noDate = `HTTP/1.1 200 OK\r\nContent-Length: ${event.length}\r\n\r\n${event}`
  const chunked = (...chunks: string[]) =>
    `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${[...chunks, ''].map(chunk => `${chunk.length.toString(16)}\r\n${chunk}\r\n`).join('')}`

  /** The first event is answered as given, the second as usual. Both are let go when they have settled. */
  const survives = async (
    start: Start,
    answer: (companion: Companion) => Promise<unknown>,
    asked: number,
    settled = 1,
  ) => {
    const companion = await start({ role })
    const { say } = companion.connect()
    say('open')
    await answer(companion)
    say(`settled ${settled} r${settled}`)
    await until(() => companion.api.asked() >= asked, 'it asks again')
    await companion.api.answer(invoke(`r${settled + 1}`))
    await holds(companion, asked)
    say(`settled ${settled + 1} r${settled + 1}`)
    await asks(companion, asked + 1)
    return companion
  }

  it.concurrent.each<[string, string[]]>([
    ['in one piece', [whole]],
    ['in two: head and body', [whole.slice(0, bodyAt), whole.slice(bodyAt)]],
    ['cut in its first line', [whole.slice(0, 5), whole.slice(5)]],
    ['cut in its head', [whole.slice(0, 40), whole.slice(40)]],
    ['cut before the end of the head', [whole.slice(0, bodyAt - 1), whole.slice(bodyAt - 1)]],
    ['cut in its body', [whole.slice(0, bodyAt + 30), whole.slice(bodyAt + 30)]],
    ['byte by byte, nearly', whole.match(/.{1,37}/gs) as string[]],
    ['with a short head', [noDate]],
    ['with headers in lower case', [whole.replace(/^[A-Z].*:/gm, name => name.toLowerCase())]],
    ['with headers in capitals', [whole.replace(/^[A-Z].*:/gm, name => name.toUpperCase())]],
    ['with spaces in its JSON', [answerWith(JSON.stringify(invoke('r1'), null, 2))]],
    ['in one chunk', [chunked(event)]],
    ['in a chunk with a newline', [chunked(`${event}\n`)]],
    ['in chunks, cut anywhere', [chunked(event.slice(0, 20), event.slice(20, 21), event.slice(21))]],
    ['in chunks that come one by one', chunked(event.slice(0, 33), event.slice(33)).match(/.{1,29}/gs) as string[]],
  ])(
    `to the ${role} extension: an event %s`,
    beside(async ({ start }, _, parts) => {
      const companion = await survives(start, ({ api }) => api.send(...parts), 2)
      expect(companion.lines()).toEqual([])
    }),
    TEST_MS,
  )

  // Once an event was as expected, the next one is asked for before this one is read, in pieces as long as before.
  const other = (fields: object) => answerWith({ ...invoke('r2'), ...fields })
  const next = other({})
  const nextBodyAt = next.indexOf('{')
  const nextEvent = next.slice(nextBodyAt)
  const usual = (bytes: string, at: number) => [bytes.slice(0, at), bytes.slice(at)]
  it.concurrent.each<[string, string[], string?]>([
    ['as usual', [next]],
    ['longer', [other({ more: 'x'.repeat(2000) })]],
    ['one byte longer', [other({ requestId: 'r2x' })]],
    ['shorter', [other({ tracing: undefined })]],
    [
      'one byte shorter',
      [other({ requestId: 'r2', invokedFunctionArn: 'arn:aws:lambda:eu-west-1:123456789012:function:' })],
    ],
    ['with a longer head', [next.replace('Date:', 'X-More: 1\r\nDate:')]],
    ['with a shorter head', [`HTTP/1.1 200 OK\r\nContent-Length: ${nextEvent.length}\r\n\r\n${nextEvent}`]],
    [
      'with its fields in another order',
      [answerWith({ requestId: 'r2', deadlineMs: inAMinute(), eventType: 'INVOKE' })],
    ],
    ['in chunks', [chunked(nextEvent.slice(0, 9), nextEvent.slice(9))]],
    ['cut in its first line', usual(next, 3)],
    ['cut in its head', usual(next, 50)],
    ['cut in the end of its head', usual(next, nextBodyAt - 2)],
    ['cut before its body', usual(next, nextBodyAt)],
    ['cut in its body', usual(next, nextBodyAt + 40)],
    ['nearly byte by byte', next.match(/.{1,37}/gs) as string[]],
    ['refused', [answerWith('{}', '403 Forbidden')]],
    ['failed, in two pieces', usual(answerWith('', '500 Internal Server Error'), 60)],
    ['that closes its connection', [next.replace('Content-Type: ', 'Connection: close\r\nX-Type: ')], 'and ends'],
    ['without a length', [`HTTP/1.0 200 OK\r\n\r\n${nextEvent}`], 'and ends'],
  ])(
    `to the ${role} extension: an event after a usual one, %s`,
    beside(async ({ start }, answer, parts, ends) => {
      const companion = await start({ role })
      const { api } = companion
      const { say } = companion.connect()
      say('open')
      await api.answer(invoke('r1'))
      say('settled 1 r1')
      await asks(companion, 2)
      const sent = api.send(...parts)
      await new Promise(resolve => setTimeout(resolve, 5)) // the first piece is there, the others are not
      say('settled 2 r2')
      const socket = await sent
      if (ends) {
        socket.end()
        await until(() => api.requests.at(-1)?.socket !== socket, 'it asks on another connection')
      } else {
        await asks(companion, 3)
      }
      const asked = api.asked()
      let last = await api.take()
      while (last.socket !== api.requests.at(-1)?.socket) last = await api.take()
      last.socket.write(answerWith(invoke('r3')))
      await holds(companion, asked)
      say('settled 3 r3')
      await asks(companion, asked + 1)
      // A refusal is said where the script comes upon it late, as on a busy machine. Of all else there is nothing to say.
      const mayBeSaid = answer === 'refused' || answer.startsWith('failed')
      const lines = companion.lines()
      expect(mayBeSaid ? lines.filter(line => !line.endsWith(', asking again')) : lines).toEqual([])
    }),
    TEST_MS,
  )

  it.concurrent.each<[string, string]>([
    ['that closes its connection', whole.replace('HTTP/1.1 200 OK\r\n', 'HTTP/1.1 200 OK\r\nConnection: close\r\n')],
    ['without a length', `HTTP/1.0 200 OK\r\n\r\n${event}`],
  ])(
    `to the ${role} extension: an event %s`,
    beside(async ({ start }, _, bytes) => {
      const companion = await start({ role })
      const { say } = companion.connect()
      await loseFirst(companion, say)
      ;(await companion.api.send(bytes)).end()
      await asks(companion, 3)
      await companion.api.answer(invoke('r2'))
      say('settled 2 r2')
      await asks(companion, 4)
      expect(companion.lines()).toEqual([])
    }),
    TEST_MS,
  )

  it.concurrent.each<[string, string]>([
    ['nothing', answerWith('')],
    ['no JSON', answerWith('<html>')],
    ['null', answerWith('null')],
    ['an array', answerWith('[]')],
    ['of a kind to come', answerWith({ eventType: 'THAW' })],
    ['an INVOKE with the status 202', answerWith(event, '202 Accepted')],
    ['a refusal', answerWith('{}', '403 Forbidden')],
    ['a failure', answerWith('{"errorMessage":"\\"x\\""}', '500 Internal "Server" Error')],
  ])(
    `to the ${role} extension: is no event: %s. It is asked for again, and that is said once`,
    beside(async ({ start }, _, bytes) => {
      const companion = await start({ role, env: { AWS_LAMBDA_LOG_FORMAT: 'JSON' } })
      const { say } = companion.connect()
      say('open', 'settled 1 r1')
      for (let time = 1; time <= 3; time++) await companion.api.send(bytes)
      await companion.api.answer(event)
      await asks(companion, 5)
      expect(companion.lines().map(line => JSON.parse(line).message)).toEqual([
        expect.stringMatching(/^middy-post-invoke: The next event cannot be had \(\d{3} [^"]*\), asking again$/),
      ])
    }),
    TEST_MS,
  )

  it.concurrent.each<[string, string]>([
    ['a refusal', answerWith('{}', '403 Forbidden')],
    ['an empty one', answerWith('')],
  ])(
    `to the ${role} extension: is no event where one was to be released at once: %s`,
    beside(async ({ start, cleanUp }, _, bytes) => {
      const companion = await survives(
        start,
        async ({ api }) => {
          await api.send(bytes)
          await new Promise(resolve => setTimeout(resolve, 30))
          const answered = until(() => api.asked() === 2, 'it asks').then(() => api.answer(event))
          cleanUp.defer(() => answered)
        },
        3,
      )
      expect(companion.lines().length).toBeLessThanOrEqual(1)
    }),
    TEST_MS,
  )

  it.concurrent.each<[string, string, number]>([
    ['a refusal', answerWith('{}', '403 Forbidden'), 0],
    ['a failure', answerWith('{}', '500 Internal Server Error'), 0],
    ['a failure, a little later', answerWith('{}', '500 Internal Server Error'), 200],
    ['of a kind to come', answerWith({ eventType: 'THAW' }), 0],
  ])(
    `to the ${role} extension: is asked for again with no line from the function, which runs no invocation meanwhile: %s`,
    beside(async ({ start }, _, bytes, delay) => {
      const companion = await start({ role })
      const { say } = companion.connect()
      say('open')
      await companion.api.answer(invoke('r1'))
      say('settled 1 r1')
      await until(() => companion.api.asked() === 2, 'it asks')
      await new Promise(resolve => setTimeout(resolve, delay))
      await companion.api.send(bytes)
      await until(() => companion.api.asked() === 3, 'it asks again')
      await companion.api.answer(invoke('r2'))
      say('settled 2 r2')
      await asks(companion, 4)
    }),
    TEST_MS,
  )

  it.concurrent(
    `to the ${role} extension: holds its invocation also where it came while the process stood still`,
    beside(async ({ start }) => {
      const companion = await start({ role })
      const { say } = companion.connect()
      say('open')
      await companion.api.answer(invoke('r1'))
      say('settled 1 r1')
      await until(() => companion.api.asked() === 2, 'it asks')
      process.kill(companion.pid, 'SIGSTOP')
      await new Promise(resolve => setTimeout(resolve, 100))
      await companion.api.answer(invoke('r2'))
      process.kill(companion.pid, 'SIGCONT')
      say(`hold 2 ${inAMinute()}`)
      await holds(companion, 2)
      say('settled 2 r2')
      await asks(companion, 3)
    }),
    TEST_MS,
  )

  it.concurrent.each<[string, string]>([
    ['no HTTP', 'SSH-2.0-OpenSSH_9.6\r\n\r\n'],
    ['a head without an end', `HTTP/1.1 200 OK\r\n${'X: y\r\n'.repeat(4_000)}`],
    ['one line without an end', `HTTP/1.1 200 OK\r\nX: ${'y'.repeat(30_000)}`],
    ['an absurd length', 'HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n'],
    ['no length', 'HTTP/1.1 200 OK\r\nContent-Length: a[$(kill $$)]\r\n\r\n'],
    ['absurd chunks', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFF\r\n'],
    ['chunks that are none', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n\r\n'],
    ['a part of a head', 'HTTP/1.1 200 OK\r\nContent-Le'],
    ['a part of an event', whole.slice(0, bodyAt + 50)],
    ['one byte', 'H'],
  ])(
    `to the ${role} extension: that is garbage, or stalls, is given up within seconds: %s`,
    beside(async ({ start }, _, bytes) => {
      const companion = await start({ role })
      const { say } = companion.connect()
      await loseFirst(companion, say)
      await companion.api.send(bytes)
      await companion.api.answer(event) // asked for on another connection
      await asks(companion, 4)
    }),
    TEST_MS,
  )

  it.concurrent(
    `to the ${role} extension: a connection that is lost, with an INVOKE unread or without, is replaced by another`,
    beside(async ({ start }) => {
      const companion = await start({ role })
      const { say } = companion.connect()
      say('open')
      const socket = await companion.api.send(whole)
      socket.resetAndDestroy()
      say('settled 1 r1')
      await asks(companion, 2)
      await companion.api.answer(invoke('r2'))
      await holds(companion, 2)
      say('settled 2 r2')
      await asks(companion, 3)
      await companion.api.cut()
      say('settled 3 r3')
      await asks(companion, 4)
      expect(companion.lines()).toEqual([])
    }),
    TEST_MS,
  )

  it.concurrent(
    `to the ${role} extension: ends, without a word, when nobody listens there any more`,
    beside(async ({ start }) => {
      const companion = await start({ role })
      const { say } = companion.connect()
      say('open', 'settled 1 r1')
      await new Promise(resolve => setTimeout(resolve, 30))
      companion.api.close()
      expect(await companion.ended).toBe(1)
      expect(companion.lines()).toEqual([])
    }),
    TEST_MS,
  )
}

describe('what the API answers', () => {
  answers('layer')
  answers('internal')
})

describe('deadlines of events', () => {
  it.concurrent.each<[string, unknown]>([
    ['none', undefined],
    ['null', null],
    ['a text', 'soon'],
    ['an object', {}],
    ['one that no timer can count', 1e15],
    ['negative', -1],
  ])(
    'one that is %s is no end',
    beside(async ({ start }, _, deadlineMs) => {
      const companion = await start()
      const { say } = companion.connect()
      say('watch')
      await companion.api.answer({ ...invoke('r1'), deadlineMs })
      await holds(companion, 1)
      say('settled 1 r1')
      await asks(companion, 2)
    }),
    TEST_MS,
  )
})

describe('SHUTDOWN ends it at once, with nothing to complain of', () => {
  it.concurrent.each<[unknown, unknown]>([
    ['SPINDOWN', inAMinute()],
    ['timeout', inAMinute()],
    ['Failure', inAMinute()],
    [undefined, undefined],
    [7, 'soon'],
    ['SPINDOWN', -1],
  ])(
    'for the reason %p, with the deadline %p',
    beside(async ({ start }, shutdownReason, deadlineMs) => {
      const companion = await start()
      await companion.api.answer({ eventType: 'SHUTDOWN', shutdownReason, deadlineMs })
      expect(await companion.ended).toBe(0)
      expect(companion.api.asked()).toBe(1)
      expect(companion.lines()).toEqual([])
    }),
    TEST_MS,
  )
})

describe('frozen and thawed', () => {
  const freeze = async ({ pid }: Companion) => {
    process.kill(pid, 'SIGSTOP')
    await new Promise(resolve => setTimeout(resolve, 50))
    process.kill(pid, 'SIGCONT')
  }

  it.concurrent.each(['layer', 'internal'] as const)(
    'at each point of an invocation (%s)',
    beside(async ({ start }, role) => {
      const companion = await start({ role })
      const { say } = companion.connect()
      const points = 5
      say('open')
      for (let number = 1; number <= points; number++) {
        const at = async (point: number) => void (point === number && (await freeze(companion)))
        await at(1)
        await companion.api.answer(invoke(`r${number}`))
        await at(2)
        say(`hold ${number} ${inAMinute()}`)
        await at(3)
        say(`settled ${number} r${number}`)
        await at(4)
        await asks(companion, number + 1)
        await at(5)
      }
      expect(companion.lines()).toEqual([])
    }),
    TEST_MS,
  )

  it.concurrent(
    'for longer than a hold may last, with its connection lost meanwhile',
    beside(async ({ start }) => {
      const companion = await start()
      const { say } = companion.connect()
      companion.writeLastWords(GONE, LATE)
      await companion.api.answer(invoke('r1'))
      say('open', `hold 1 ${Date.now() + 1_000}`)
      await new Promise(resolve => setTimeout(resolve, 50))
      process.kill(companion.pid, 'SIGSTOP')
      ;(companion.api.requests.at(-1) as { socket: { resetAndDestroy(): void } }).socket.resetAndDestroy()
      await new Promise(resolve => setTimeout(resolve, 1_100))
      process.kill(companion.pid, 'SIGCONT')
      await asks(companion, 2)
      await companion.api.answer(invoke('r2'))
      say('settled 2 r2')
      await until(() => companion.api.asked() >= 3, 'it goes on')
    }),
    TEST_MS,
  )
})

describe('an API that is gone, and a function that is', () => {
  it.concurrent(
    'the internal extension ends where its function is gone, also while it waits for the API',
    beside(async ({ start }) => {
      const companion = await start({ role: 'internal' })
      const { say, end } = companion.connect()
      say('open', 'settled 1 r1') // whose event never comes
      await new Promise(resolve => setTimeout(resolve, 50))
      end()
      // Its parent lives, so it asks for the event that Lambda owes it, and sees the end then.
      await companion.api.answer(invoke('r1'))
      expect(await companion.ended).toBe(0)
      expect(companion.api.requests[0]?.head).toContain('Lambda-Extension-Name: middy-post-invoke')
      expect(companion.api.requests[1]?.head).toContain(`Lambda-Extension-Identifier: ${IDENTIFIER}`)
    }),
    TEST_MS,
  )
})
