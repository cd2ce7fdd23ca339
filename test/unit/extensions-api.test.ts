import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import net, { type AddressInfo, type Socket } from 'node:net'
import { afterEach, describe, expect, it } from '@jest/globals'
import {
  createExtensionsApi,
  ExtensionsApiError,
  nextRequest,
  parseEvent,
  registerRequest,
} from '../../src/extension/extensions-api.ts'
import { turns, until } from './helpers.ts'

describe('requests', () => {
  it('register', () => {
    expect(registerRequest('post-invoke', ['INVOKE', 'SHUTDOWN'])).toEqual({
      method: 'POST',
      path: '/2020-01-01/extension/register',
      headers: { 'Lambda-Extension-Name': 'post-invoke', 'Content-Type': 'application/json' },
      body: '{"events":["INVOKE","SHUTDOWN"]}',
    })
    expect(registerRequest('a', []).body).toBe('{"events":[]}')
  })

  it('next', () => {
    expect(nextRequest('an-identifier')).toEqual({
      method: 'GET',
      path: '/2020-01-01/extension/event/next',
      headers: { 'Lambda-Extension-Identifier': 'an-identifier' },
    })
  })
})

describe('events', () => {
  const parse = (event: unknown, now = 1_000) => parseEvent(JSON.stringify(event), now)

  it('INVOKE', () => {
    const event = {
      eventType: 'INVOKE',
      deadlineMs: 5_000,
      requestId: 'r1',
      invokedFunctionArn: 'arn:aws:lambda:eu-central-1:123456789012:function:f',
      tracing: { type: 'X-Amzn-Trace-Id', value: 'Root=1' },
    }
    expect(parse(event)).toEqual({ type: 'INVOKE', requestId: 'r1', deadline: 5_000 })
  })

  it.each(['spindown', 'SPINDOWN', 'Spindown'])('SHUTDOWN for the reason %s, in whatever case', shutdownReason => {
    expect(parse({ eventType: 'SHUTDOWN', shutdownReason, deadlineMs: 5_000 })).toEqual({
      type: 'SHUTDOWN',
      reason: 'spindown',
      deadline: 5_000,
    })
  })

  it.each(['timeout', 'TIMEOUT', 'failure', 'FAILURE'])('SHUTDOWN for the reason %s', shutdownReason => {
    expect(parse({ eventType: 'SHUTDOWN', shutdownReason })).toMatchObject({ reason: shutdownReason.toLowerCase() })
  })

  it.each(['invoke', 'Invoke'])('of the type %s, in whatever case', eventType => {
    expect(parse({ eventType, requestId: 'r1', deadlineMs: 1 })).toMatchObject({ type: 'INVOKE' })
  })

  it('of a type that nobody knows yet', () => {
    expect(parse({ eventType: 'CHECKPOINT' })).toEqual({ type: 'UNKNOWN', name: 'CHECKPOINT' })
    expect(parse({})).toEqual({ type: 'UNKNOWN', name: 'UNDEFINED' })
    expect(parse([])).toEqual({ type: 'UNKNOWN', name: 'UNDEFINED' })
  })

  it.each([
    ['a text', '5000'],
    ['null', null],
    ['nothing', undefined],
    ['an object', {}],
    ['a truth', true],
  ])('whose deadline is %s: that of the longest invocation', (_, deadlineMs) => {
    expect(parse({ eventType: 'INVOKE', requestId: 'r1', deadlineMs })).toEqual({
      type: 'INVOKE',
      requestId: 'r1',
      deadline: 901_000,
    })
  })

  it('whose deadline is not a finite number: likewise', () => {
    expect(parseEvent('{"eventType":"INVOKE","requestId":"r1","deadlineMs":1e999}', 1_000)).toMatchObject({
      deadline: 901_000,
    })
  })

  it('that are no JSON are an error, which the loop takes for an outage', () => {
    expect(() => parseEvent('<html>')).toThrow(SyntaxError)
    expect(() => parseEvent('')).toThrow(SyntaxError)
  })
})

describe('the client', () => {
  type Received = { method: string; url: string; headers: IncomingMessage['headers']; body: string; socket: Socket }

  const closing: (() => void)[] = []
  afterEach(() => {
    for (const close of closing.splice(0)) close()
  })

  /** `node:net`, whose connections can be looked at and end with the test. */
  const spyOnConnections = () => {
    const sockets: Socket[] = []
    const connect = (...args: [any]) => {
      const socket = net.connect(...args)
      sockets.push(socket)
      closing.push(() => socket.destroy())
      return socket
    }
    return { spied: { connect } as Pick<typeof net, 'connect'>, sockets }
  }

  /** A server that answers with exactly these bytes, and a client of it. */
  const startRaw = async (answer: (socket: Socket, count: number) => void) => {
    let count = 0
    const server = net.createServer(socket => {
      socket.on('error', () => {})
      socket.on('data', () => answer(socket, ++count))
      closing.push(() => socket.destroy())
    })
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    closing.push(() => server.close())
    const { spied, sockets } = spyOnConnections()
    const address = `127.0.0.1:${(server.address() as AddressInfo).port}`
    return { api: createExtensionsApi(address, spied, { ref: true }), sockets }
  }

  /** A server on port 0, and a client of it. */
  const start = async (
    answer: (request: Received, response: ServerResponse) => void,
    options: { ref: boolean } = { ref: true },
  ) => {
    const received: Received[] = []
    const server = createServer(async (request, response) => {
      let body = ''
      for await (const chunk of request) body += chunk
      const { method = '', url = '', headers, socket } = request
      const seen = { method, url, headers, body, socket }
      received.push(seen)
      answer(seen, response)
    })
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    const address = `127.0.0.1:${(server.address() as AddressInfo).port}`
    const { spied, sockets } = spyOnConnections()
    closing.push(() => {
      server.closeAllConnections()
      server.close()
    })
    return { api: createExtensionsApi(address, spied, options), address, server, received, sockets }
  }

  it('registers', async () => {
    const { api, address, received } = await start((_, response) => {
      response.setHeader('Lambda-Extension-Identifier', 'an-identifier')
      response.end('{"functionName":"f"}')
    })
    expect(await api.register('post-invoke', ['INVOKE'])).toBe('an-identifier')
    expect(received).toHaveLength(1)
    expect(received[0]).toMatchObject({
      method: 'POST',
      url: '/2020-01-01/extension/register',
      body: '{"events":["INVOKE"]}',
      headers: { host: address, 'lambda-extension-name': 'post-invoke', 'content-type': 'application/json' },
    })
  })

  it('gets events, all over one connection', async () => {
    let count = 0
    const { api, received } = await start((_, response) => {
      response.end(JSON.stringify({ eventType: 'INVOKE', requestId: `r${++count}`, deadlineMs: 1 }))
    })
    for (const requestId of ['r1', 'r2', 'r3']) expect(await api.next('id')).toMatchObject({ requestId })
    expect(received.map(({ headers }) => headers['lambda-extension-identifier'])).toEqual(['id', 'id', 'id'])
    expect(new Set(received.map(({ socket }) => socket)).size).toBe(1)
  })

  it('reads a body that comes in pieces, cut within a character', async () => {
    const body = Buffer.from(JSON.stringify({ eventType: 'INVOKE', requestId: 'ü', deadlineMs: 1 }))
    const cut = body.indexOf(Buffer.from('ü')) + 1
    const { api } = await start(async (_, response) => {
      response.write(body.subarray(0, cut))
      await turns(20)
      response.end(body.subarray(cut))
    })
    expect(await api.next('id')).toMatchObject({ requestId: 'ü' })
  })

  it.each([403, 500, 202, 301])('rejects at the status %i, with what the answer says', async status => {
    const { api } = await start((_, response) => {
      response.statusCode = status
      response.end('x'.repeat(500))
    })
    const error = await api.next('id').catch(error => error)
    expect(error).toBeInstanceOf(ExtensionsApiError)
    expect(error.status).toBe(status)
    expect(error.message).toBe(
      `The Extensions API answered GET /2020-01-01/extension/event/next with ${status}: ${'x'.repeat(200)}`,
    )
    await expect(api.register('a', [])).rejects.toThrow(
      `The Extensions API answered POST /2020-01-01/extension/register with ${status}: `,
    )
  })

  it('rejects where nobody listens, and works once somebody does', async () => {
    const { api, server } = await start((_, response) => response.end('{}'))
    const { port } = server.address() as AddressInfo
    server.close()
    await expect(api.next('id')).rejects.toMatchObject({ code: 'ECONNREFUSED' })
    await new Promise<void>(resolve => server.listen(port, '127.0.0.1', resolve))
    expect(await api.next('id')).toEqual({ type: 'UNKNOWN', name: 'UNDEFINED' })
  })

  it.each<[string, (response: ServerResponse) => void]>([
    ['before the answer', response => void response.socket?.destroy()],
    [
      'in the middle of it',
      response => {
        response.setHeader('Content-Length', 100)
        response.write('{', () => response.socket?.destroy())
      },
    ],
  ])('rejects where the connection breaks %s, and uses a new one then', async (_, breakOff) => {
    let count = 0
    const { api } = await start((_, response) => {
      if (++count === 1) breakOff(response)
      else response.end('{}')
    })
    await expect(api.next('id')).rejects.toMatchObject({ code: 'ECONNRESET' })
    expect(await api.next('id')).toEqual({ type: 'UNKNOWN', name: 'UNDEFINED' })
  })

  it('asks anew where the connection was closed between two calls, and nobody sees an error', async () => {
    const { api, received, sockets } = await start((_, response) => response.end('{}'))
    await api.next('id')
    received[0]?.socket.destroy()
    await until(() => sockets[0]?.destroyed === true)
    expect(await api.next('id')).toEqual({ type: 'UNKNOWN', name: 'UNDEFINED' })
    expect(sockets).toHaveLength(2)
  })

  it('does not use a connection again that the server is about to close', async () => {
    const { api, sockets } = await start((_, response) => response.setHeader('Connection', 'close').end('{}'))
    await api.next('id')
    await api.next('id')
    expect(sockets).toHaveLength(2)
    expect(sockets[0]?.destroyed).toBe(true)
  })

  const ANSWER = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}'

  it('takes no answer for the next one that nobody has asked for', async () => {
    const { api, sockets } = await startRaw((socket, count) => {
      const more = 'HTTP/1.1 200 OK\r\nContent-Length: 26\r\n\r\n{"eventType":"SHUTDOWN"}  '
      socket.write(count === 1 ? ANSWER + more : ANSWER)
    })
    expect(await api.next('id')).toEqual({ type: 'UNKNOWN', name: 'UNDEFINED' })
    expect(await api.next('id')).toEqual({ type: 'UNKNOWN', name: 'UNDEFINED' })
    expect(sockets).toHaveLength(2)
  })

  it.each([
    ['no answer of HTTP', 'SSH-2.0-OpenSSH_9.7\r\n\r\n', 'Expected an answer of HTTP/1.1, got "SSH-2.0-OpenSSH_9.7"'],
    ['a length that is none', 'HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n', 'Expected the length of a body, got "x"'],
  ])('rejects %s, and uses a new connection then', async (_, bytes, message) => {
    const { api, sockets } = await startRaw((socket, count) => void socket.write(count === 1 ? bytes : ANSWER))
    await expect(api.next('id')).rejects.toThrow(message)
    expect(await api.next('id')).toEqual({ type: 'UNKNOWN', name: 'UNDEFINED' })
    expect(sockets).toHaveLength(2)
    expect(sockets[0]?.destroyed).toBe(true)
  })

  it('rejects an answer without an end before it fills the memory', async () => {
    const { api, sockets } = await startRaw(socket => {
      const more = () => {
        if (!socket.destroyed) socket.write('x'.repeat(65_536), more)
      }
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n', more)
    })
    await expect(api.next('id')).rejects.toThrow('The answer has more than 1048576 bytes')
    expect(sockets[0]?.destroyed).toBe(true)
  })

  it('reads a body that goes to the end of the connection', async () => {
    const { api } = await startRaw(socket => void socket.end('HTTP/1.1 200 OK\r\n\r\n{"eventType":"SHUTDOWN"}'))
    expect(await api.next('id')).toMatchObject({ type: 'SHUTDOWN' })
  })

  it('connects to an address of IPv6', async () => {
    const { spied, sockets } = spyOnConnections()
    const api = createExtensionsApi('[::1]:9', spied, { ref: true })
    await expect(api.next('id')).rejects.toMatchObject({ address: '::1', port: 9 })
    expect(sockets).toHaveLength(1)
  })

  it('waits without any timeout', async () => {
    const waiting: ServerResponse[] = []
    const { api, sockets } = await start((_, response) => void waiting.push(response))
    const event = api.next('id')
    await until(() => waiting.length === 1)
    expect(sockets[0]?.timeout ?? 0).toBe(0)
    waiting[0]?.end('{"eventType":"SHUTDOWN"}')
    expect(await event).toMatchObject({ type: 'SHUTDOWN' })
  })

  it.each([true, false])('keeps the process running: %s, also over a connection used again', async ref => {
    const waiting: ServerResponse[] = []
    const { api, sockets } = await start((_, response) => void waiting.push(response), { ref })
    for (let index = 0; index < 2; index++) {
      const event = api.next('id')
      await until(() => waiting.length === index + 1)
      expect((sockets[0] as any)._handle.hasRef()).toBe(ref)
      waiting[index]?.end('{}')
      await event
      await turns(5)
    }
    expect(sockets).toHaveLength(1)
  })
})
