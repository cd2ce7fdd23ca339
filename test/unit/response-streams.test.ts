// Real requests of node:http to a real server: the diagnostics channels are Node's own.
import http, { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import { observeResponseStreams } from '../../src/middleware/response-streams.ts'
import { turns, until } from './helpers.ts'

let streams: ReturnType<typeof observeResponseStreams>
beforeEach(() => {
  streams = observeResponseStreams()
})

let answer: (response: ServerResponse, body: () => string) => void
const server = createServer((request, response) => {
  let body = ''
  request.setEncoding('utf8').on('data', chunk => {
    body += chunk
  })
  request.on('end', () => answer(response, () => body))
  request.on('error', () => {})
})
beforeAll(() => new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve)))
afterAll(() => {
  server.closeAllConnections()
  server.close()
})
beforeEach(() => {
  answer = response => response.writeHead(202).end()
})

const RESPONSE = (id: string) => `/2018-06-01/runtime/invocation/${id}/response`

const post = (path: string, options: http.RequestOptions = {}) => {
  const { port } = server.address() as AddressInfo
  const headers = { 'Lambda-Runtime-Function-Response-Mode': 'streaming' }
  const request = http.request({ host: '127.0.0.1', port, path, method: 'POST', agent: false, headers, ...options })
  request.on('error', () => {})
  request.on('response', response => response.resume())
  return request
}

/** Whether a promise has been fulfilled by now. */
const watch = (promise: Promise<void> | undefined) => {
  let done = false
  promise?.then(() => {
    done = true
  })
  return () => done
}

describe('a streamed response', () => {
  it('is known from its beginning, and accepted once Lambda has answered its end', async () => {
    let respond = () => {}
    answer = response => {
      respond = () => response.writeHead(202).end()
    }
    const request = post(RESPONSE('r1'))
    expect(streams.has('r1')).toBe(true)
    const isAccepted = watch(streams.accepted('r1'))
    request.write('first')
    await turns(20)
    request.end('last')
    await until(() => String(respond) !== String(() => {}))
    await turns(20)
    expect(isAccepted()).toBe(false)
    respond()
    await until(isAccepted)
    expect(streams.accepted('r1')).toBeUndefined()
    expect(streams.has('r1')).toBe(true)
  })

  it('is known until the next one begins, and so none is kept for long', async () => {
    const [first, second] = [post(RESPONSE('r1')), post(RESPONSE('r2'))]
    first.end()
    await until(watch(streams.accepted('r1')))
    expect([streams.has('r1'), streams.has('r2')]).toEqual([true, true])
    const third = post(RESPONSE('r3'))
    expect([streams.has('r1'), streams.has('r2'), streams.has('r3')]).toEqual([false, true, true])
    for (const request of [second, third]) request.end()
    await Promise.all([streams.accepted('r2'), streams.accepted('r3')])
  })

  it('is waited for by all who ask', async () => {
    const request = post(RESPONSE('r1'))
    const [first, second] = [streams.accepted('r1'), streams.accepted('r1')]
    request.end()
    await Promise.all([first, second])
    expect([first, second]).toEqual([expect.any(Promise), expect.any(Promise)])
  })

  it('is one of each request, though they run side by side', async () => {
    const first = post(RESPONSE('r1'))
    const second = post(RESPONSE('r2'))
    const isFirst = watch(streams.accepted('r1'))
    const isSecond = watch(streams.accepted('r2'))
    second.end()
    await until(isSecond)
    expect(isFirst()).toBe(false)
    first.end()
    await until(isFirst)
  })

  it('has an id that is encoded in the path', () => {
    post(RESPONSE(encodeURIComponent('r 1/ü'))).end()
    expect(streams.has('r 1/ü')).toBe(true)
  })

  it('that is posted again under the same id counts anew', async () => {
    for (let time = 0; time < 2; time++) {
      const request = post(RESPONSE('retry'))
      const isAccepted = watch(streams.accepted('retry'))
      await turns(5)
      expect(isAccepted()).toBe(false)
      request.end()
      await until(isAccepted)
    }
  })
})

describe('is no longer waited for when', () => {
  it.each<[string, (request: http.ClientRequest) => void]>([
    ['the function destroys it', request => void request.destroy()],
    ['the function destroys it with an error', request => void request.destroy(new Error('stream failed'))],
    [
      'Lambda closes the connection',
      request => {
        answer = response => void response.socket?.destroy()
        request.end()
      },
    ],
    [
      'Lambda refuses it',
      request => {
        answer = response => void response.writeHead(413).end()
        request.end()
      },
    ],
    [
      'the function aborts it in the middle',
      request => {
        request.write('first')
        setTimeout(() => request.destroy(), 10)
      },
    ],
  ])('%s', async (_, end) => {
    const request = post(RESPONSE('r1'))
    const isAccepted = watch(streams.accepted('r1'))
    end(request)
    await until(isAccepted)
    expect(streams.accepted('r1')).toBeUndefined()
  })

  it('nobody is there', async () => {
    const request = post(RESPONSE('r1'), { port: 1 })
    const isAccepted = watch(streams.accepted('r1'))
    request.end()
    await until(isAccepted)
  })
})

describe('what is no streamed response', () => {
  it.each<[string, http.RequestOptions]>([
    ['/2018-06-01/runtime/invocation/r1/error', {}],
    ['/2018-06-01/runtime/invocation/next', { method: 'GET' }],
    ['/2018-06-01/runtime/invocation/r1/response', { method: 'GET' }],
    ['/2018-06-01/runtime/invocation/r1/response/more', {}],
    ['/prefix/2018-06-01/runtime/invocation/r1/response', {}],
    ['/2020-01-01/extension/event/next', { method: 'GET' }],
    ['/', {}],
  ])('%s %j', async (path, options) => {
    await new Promise<void>(resolve => {
      post(path, options)
        .on('close', () => resolve())
        .end()
    })
    expect(streams.has('r1')).toBe(false)
    expect(streams.has('next')).toBe(false)
    expect(streams.accepted('r1')).toBeUndefined()
  })

  it('an id that nobody has heard of', () => {
    expect(streams.accepted('unknown')).toBeUndefined()
  })

  // Requests of the function's own pass through the same channels: nothing that they do may throw there.
  it('a path that cannot be decoded', async () => {
    const thrown: unknown[] = []
    const { channel } = process.getBuiltinModule('node:diagnostics_channel')
    const nextTick = process.nextTick
    // What a subscriber throws is thrown again in the next tick, as an uncaught exception.
    process.nextTick = ((fn: any, ...args: any[]) =>
      nextTick(() => {
        try {
          fn(...args)
        } catch (error) {
          thrown.push(error)
        }
      })) as typeof process.nextTick
    channel('http.client.request.created').publish({
      request: { method: 'POST', path: RESPONSE('%'), getHeader: () => 'streaming' },
    })
    process.nextTick = nextTick
    await turns(5)
    expect(thrown).toEqual([])
  })
})
