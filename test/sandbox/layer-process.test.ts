// The layer's process by itself, as it is built, with an Extensions API and a function's process that are played here: what
// it does with events that Lambda should not send, and how it ends.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import http, { type ServerResponse } from 'node:http'
import net, { type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, it } from '@jest/globals'
import { encode, hello, type Message } from '../../src/extension/link.ts'
import { eventually, layer } from '../support/run.ts'

const TEST_MS = 20_000

let cleanUp = new AsyncDisposableStack()
afterEach(async () => {
  await cleanUp.disposeAsync()
  cleanUp = new AsyncDisposableStack()
})

const startCompanion = async () => {
  const polls: ServerResponse[] = []
  let asked = 0
  const api = http.createServer((_, response) => {
    asked++
    polls.push(response)
  })
  await once(api.listen(0, '127.0.0.1'), 'listening')
  const address = `127.0.0.1:${(api.address() as AddressInfo).port}`
  const child = spawn(process.execPath, [join(layer, 'post-invoke', 'companion.cjs')], {
    env: { AWS_LAMBDA_RUNTIME_API: address, POST_INVOKE_EXTENSION_IDENTIFIER: 'ours' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let log = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', text => {
      log += text
    })
  }
  const ended = new Promise<number | null>(resolve => child.on('close', resolve))
  cleanUp.defer(async () => {
    child.kill('SIGKILL')
    api.closeAllConnections()
    api.close()
    await ended
  })
  const nextPoll = async () => {
    await eventually(() => polls.length > 0, 'it asks for the next event')
    return polls.shift() as ServerResponse
  }
  return {
    address,
    /** How often it has asked for an event. */
    asked: () => asked,
    isWaiting: () => polls.length > 0,
    /** Answers its question for the next event. */
    answer: async (body: unknown, status = 200) =>
      void (await nextPoll()).writeHead(status).end(typeof body === 'string' ? body : JSON.stringify(body)),
    /** Breaks off the connection on which it waits for the next event. */
    cut: async () => void (await nextPoll()).destroy(),
    lines: () => log.split('\n').filter(line => line.startsWith('middy-post-invoke: ')),
    log: () => log,
    /** Its exit code. */
    ended,
  }
}

/** The function's process, which greets each connection. */
const startFunction = async (address: string) => {
  const sockets: net.Socket[] = []
  const server = net.createServer(socket => {
    sockets.push(socket)
    socket.on('error', () => {}).resume()
    socket.write(encode(hello))
  })
  await once(server.listen(`\0middy-post-invoke/${address}`), 'listening')
  cleanUp.defer(async () => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return {
    connections: () => sockets.length,
    connected: (count = 1) => eventually(() => sockets.length === count, `connection ${count}`),
    say: (...messages: Message[]) => {
      for (const message of messages) sockets.at(-1)?.write(encode(message))
    },
    hangUp: () => sockets.at(-1)?.destroy(),
  }
}

const inAMinute = () => Date.now() + 60_000
const invoke = (requestId: string, deadlineMs: unknown = inAMinute()) => ({
  eventType: 'INVOKE',
  requestId,
  deadlineMs,
})
const shutdown = { eventType: 'SHUTDOWN', shutdownReason: 'SPINDOWN', deadlineMs: inAMinute() }
const settled = (requestId: string): Message => ({ type: 'settled', requestId })

describe('SHUTDOWN ends it at once, with nothing to complain of', () => {
  it.each<[unknown, unknown]>([
    ['SPINDOWN', inAMinute()],
    ['spindown', inAMinute()],
    ['TIMEOUT', inAMinute()],
    ['Timeout', inAMinute()],
    ['FAILURE', inAMinute()],
    ['failure', inAMinute()],
    ['a reason to come', inAMinute()],
    [undefined, undefined],
    [null, null],
    [7, 'soon'],
    ['SPINDOWN', -1],
  ])(
    'for the reason %p, with the deadline %p',
    async (shutdownReason, deadlineMs) => {
      const companion = await startCompanion()
      await companion.answer({ eventType: 'SHUTDOWN', shutdownReason, deadlineMs })
      expect(await companion.ended).toBe(0)
      expect(companion.asked()).toBe(1)
      expect(companion.log()).toBe('')
    },
    TEST_MS,
  )

  it.each([
    ['that has settled', true],
    ['that has not: its tasks are named', false],
  ])(
    'after an invocation %s, with the connection still open',
    async (_, hasSettled) => {
      const companion = await startCompanion()
      const { connected, say } = await startFunction(companion.address)
      await companion.answer(invoke('r1'))
      await connected()
      say({ type: 'tasks', requestId: 'r1', names: ['audit'], more: 0 }, settled('r1'))
      if (!hasSettled) say({ type: 'tasks', requestId: 'r1', names: ['mail'], more: 2 })
      // Only once both lines have arrived: the next hold ends by what comes behind them.
      await companion.answer(invoke('r2'))
      say(settled('r2'))
      await companion.answer(shutdown)
      expect(await companion.ended).toBe(0)
      expect(companion.lines()).toEqual(
        hasSettled
          ? []
          : [
              `middy-post-invoke: the function's process ended in the middle of request r1; unfinished: "mail" and 2 more`,
            ],
      )
    },
    TEST_MS,
  )
})

describe('INVOKE', () => {
  it.each<[string, unknown]>([
    ['none', undefined],
    ['null', null],
    ['a text', 'soon'],
    ['an object', {}],
    ['one that no timer can count', 1e15],
  ])(
    'with a deadline that is %s is held until its tasks have ended',
    async (_, deadlineMs) => {
      const companion = await startCompanion()
      const { connected, say } = await startFunction(companion.address)
      await companion.answer({ ...invoke('r1'), deadlineMs })
      await connected()
      say(settled('another'), { type: 'tasks', requestId: 'r1', names: ['audit'], more: 0 })
      await sleep(50)
      expect(companion.isWaiting()).toBe(false)
      say(settled('r1'))
      await companion.answer(shutdown)
      expect(await companion.ended).toBe(0)
      expect(companion.log()).toBe('')
    },
    TEST_MS,
  )

  it(
    'whose deadline is over is let go, which is logged with the tasks that it has',
    async () => {
      const companion = await startCompanion()
      const { connected, say } = await startFunction(companion.address)
      await companion.answer(invoke('r1'))
      await connected()
      say({ type: 'tasks', requestId: 'r2', names: ['audit'], more: 0 }, settled('r1'))
      await companion.answer(invoke('r2', 0))
      await companion.answer(shutdown)
      expect(await companion.ended).toBe(0)
      expect(companion.lines()[0]).toBe(
        'middy-post-invoke: released request r2 before its deadline although it has not settled; unfinished: "audit"',
      )
    },
    TEST_MS,
  )
})

describe('what is no event', () => {
  it.each<[string, unknown, number]>([
    ['nothing', '', 200],
    ['no JSON', '<html>', 200],
    ['null', 'null', 200],
    ['an array', [], 200],
    ['of a kind to come', { eventType: 'THAW' }, 200],
    ['an INVOKE with the status 202', invoke('r1'), 202],
    ['a refusal', '{}', 403],
    ['a failure', '{}', 500],
  ])(
    'does not end it: %s',
    async (_, body, status) => {
      const companion = await startCompanion()
      const { connected, say } = await startFunction(companion.address)
      await companion.answer(body, status)
      await companion.answer(invoke('r2'))
      await connected()
      say(settled('r2'))
      await companion.answer(shutdown)
      expect(await companion.ended).toBe(0)
      expect(companion.asked()).toBe(3)
      expect(companion.lines().length).toBeLessThanOrEqual(1)
    },
    TEST_MS,
  )
})

it(
  'goes on after all its connections were cut while nothing happened, as by a long freeze',
  async () => {
    const companion = await startCompanion()
    const { connected, say, hangUp, connections } = await startFunction(companion.address)
    for (let number = 1; number <= 3; number++) {
      await companion.answer(invoke(`r${number}`))
      await connected(number)
      say(settled(`r${number}`))
      await eventually(companion.isWaiting, 'it asks for the next event')
      hangUp()
      await companion.cut()
    }
    await companion.answer(shutdown)
    expect(await companion.ended).toBe(0)
    expect(connections()).toBe(3)
    // Each outage is told of, and no task was lost.
    const outage = expect.stringMatching(/^middy-post-invoke: The next event cannot be had, asking again/)
    expect(companion.lines()).toEqual([outage, outage, outage])
  },
  TEST_MS,
)
