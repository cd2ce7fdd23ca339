// register.sh by a real bash against a real server, as the function's own process runs it. As the layer's extension it
// is run in the sandbox.
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import net, { type AddressInfo, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'

const source = fileURLToPath(new URL('../../src/extension/register.sh', import.meta.url))
const script = readFileSync(source, 'utf8')

let folder: string
const servers: Server[] = []
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'post-invoke-'))
})
afterEach(() => {
  for (const server of servers.splice(0)) server.close()
  rmSync(folder, { recursive: true, force: true })
})

type Received = Pick<IncomingMessage, 'method' | 'url' | 'headers'> & { body: string }

const listen = async <Any extends Server>(server: Any) => {
  servers.push(server)
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return `127.0.0.1:${(server.address() as AddressInfo).port}`
}

const serve = async (answer: (response: ServerResponse) => void) => {
  const received: Received[] = []
  const address = await listen(
    createServer(async (request, response) => {
      let body = ''
      for await (const chunk of request) body += chunk
      const { method, url, headers } = request
      received.push({ method, url, headers, body })
      answer(response)
    }),
  )
  return { address, received }
}

/** A server that answers with exactly these bytes. */
const serveBytes = (bytes: string) =>
  listen(
    net.createServer(socket => {
      socket.on('error', () => {})
      socket.once('data', () => socket.end(bytes))
    }),
  )

const run = (command: string, args: string[], env: Record<string, string>) =>
  new Promise<{ code: number; stdout: string; stderr: string }>(resolve => {
    const child = execFile(command, args, { env }, (error, stdout, stderr) =>
      resolve({ code: Number(error?.code ?? 0), stdout, stderr }),
    )
    child.stdin?.end()
  })

/** As src/extension/internal.ts does. */
const register = (address: string, events = '"INVOKE"', env: Record<string, string> = {}) =>
  run('/bin/bash', ['--norc', '-p', '-c', script, 'register.sh', 'an-extension', events], {
    AWS_LAMBDA_RUNTIME_API: address,
    ...env,
  })

const accept = (response: ServerResponse) => {
  response.setHeader('Lambda-Extension-Identifier', '0f1e-an-identifier')
  response.setHeader('Content-Type', 'application/json')
  response.end('{"functionName":"f","handler":"index.handler"}')
}

describe('registered', () => {
  it.each([
    ['"INVOKE"', ['INVOKE']],
    ['"INVOKE","SHUTDOWN"', ['INVOKE', 'SHUTDOWN']],
    ['', []],
  ])('for %s: its identifier is printed', async (events, expected) => {
    const { address, received } = await serve(accept)
    expect(await register(address, events)).toEqual({ code: 0, stdout: '0f1e-an-identifier\n', stderr: '' })
    expect(received).toHaveLength(1)
    expect(received[0]).toMatchObject({
      method: 'POST',
      url: '/2020-01-01/extension/register',
      headers: { host: address, 'lambda-extension-name': 'an-extension', 'content-type': 'application/json' },
    })
    expect(JSON.parse(received[0]?.body ?? '')).toEqual({ events: expected })
  })

  it.each([
    ['in lower case', 'HTTP/1.1 200 OK\r\nlambda-extension-identifier: an-id\r\n\r\n'],
    ['without a reason', 'HTTP/1.1 200\r\nLambda-Extension-Identifier: an-id\r\n\r\n'],
    ['among others', 'HTTP/1.1 200 OK\r\nDate: today\r\nLambda-Extension-Identifier: an-id\r\nX: y\r\n\r\n{}'],
    ['of HTTP/1.0', 'HTTP/1.0 200 OK\r\nLambda-Extension-Identifier: an-id\r\n\r\n'],
    ['in capitals', 'HTTP/1.1 200 OK\r\nLAMBDA-EXTENSION-IDENTIFIER: an-id\r\n\r\n'],
    ['without a space', 'HTTP/1.1 200 OK\r\nLambda-Extension-Identifier:an-id\r\n\r\n'],
  ])('by an answer whose header is written %s', async (_, bytes) => {
    expect(await register(await serveBytes(bytes))).toEqual({ code: 0, stdout: 'an-id\n', stderr: '' })
  })
})

describe('not registered', () => {
  it.each([
    [403, '403 Forbidden\n'],
    [500, '500 Internal Server Error\n'],
  ])('the status %i is told, and nothing is printed', async (status, stderr) => {
    const { address } = await serve(response => response.writeHead(status).end('{"errorType":"x"}'))
    expect(await register(address)).toEqual({ code: 1, stdout: '', stderr })
  })

  it('a success without an identifier is none', async () => {
    const { address } = await serve(response => response.end('{}'))
    expect(await register(address)).toEqual({ code: 1, stdout: '', stderr: '200 OK\n' })
  })

  it('a refusal with an identifier is none', async () => {
    const { address } = await serve(response => {
      response.statusCode = 403
      accept(response)
    })
    expect(await register(address)).toEqual({ code: 1, stdout: '', stderr: '403 Forbidden\n' })
  })

  it('nobody is there', async () => {
    const server = net.createServer()
    const address = await listen(server)
    await new Promise(resolve => server.close(resolve))
    expect(await register(address)).toEqual({ code: 1, stdout: '', stderr: 'no answer\n' })
  })

  it('the connection is closed without an answer', async () => {
    expect(await register(await serveBytes(''))).toEqual({ code: 1, stdout: '', stderr: 'no answer\n' })
  })

  it.each([
    ['', 'nothing'],
    ['localhost', 'no port'],
    ['not a host:80', 'no host'],
  ])('the address is %j: %s', async address => {
    expect(await register(address)).toEqual({ code: 1, stdout: '', stderr: 'no answer\n' })
  })
})

describe('the layer without Node.js', () => {
  const MESSAGE =
    /^middy-post-invoke: the layer needs Node\.js, and there is none on PATH nor at \S+: detach it from this function$/

  /** What it says before it waits for ever. */
  const firstLine = async (from: 'stdout' | 'stderr', env: Record<string, string>) => {
    const { address } = await serve(accept)
    const child = spawn('/bin/bash', [source], { env: { PATH: folder, AWS_LAMBDA_RUNTIME_API: address, ...env } })
    try {
      const [chunk] = await once(child[from], 'data')
      return String(chunk).trim()
    } finally {
      child.kill('SIGKILL')
    }
  }

  it('says so', async () => {
    expect(await firstLine('stderr', {})).toMatch(MESSAGE)
  })

  it('says so as JSON where that is the format', async () => {
    expect(JSON.parse(await firstLine('stdout', { AWS_LAMBDA_LOG_FORMAT: 'JSON' }))).toEqual({
      timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
      level: 'ERROR',
      message: expect.stringMatching(MESSAGE),
    })
  })
})

describe('code of others', () => {
  /** A start-up file that leaves a mark where it is run. */
  const pollute = () => {
    const mark = join(folder, 'was-here')
    const file = join(folder, '.bashrc')
    writeFileSync(file, `echo polluted; touch ${JSON.stringify(mark)}\n`)
    return { env: { BASH_ENV: file, ENV: file, HOME: folder }, wasRun: () => existsSync(mark) }
  }

  it('in BASH_ENV is run by a bash without -p: this test would notice', async () => {
    const { env, wasRun } = pollute()
    const { address } = await serve(accept)
    const { stdout } = await run('/bin/bash', [source, 'an-extension', ''], { AWS_LAMBDA_RUNTIME_API: address, ...env })
    expect(stdout).toContain('polluted')
    expect(wasRun()).toBe(true)
  })

  it('in BASH_ENV or ~/.bashrc is not run by ours, with -c', async () => {
    const { env, wasRun } = pollute()
    const { address } = await serve(accept)
    expect(await register(address, '', env)).toEqual({ code: 0, stdout: '0f1e-an-identifier\n', stderr: '' })
    expect(wasRun()).toBe(false)
  })

  it('nor by the script as a file: its first line sees to that', async () => {
    const { env, wasRun } = pollute()
    const { address } = await serve(accept)
    const file = join(folder, 'post-invoke')
    copyFileSync(source, file)
    chmodSync(file, 0o755)
    expect(await run(file, ['an-extension', ''], { AWS_LAMBDA_RUNTIME_API: address, ...env })).toEqual({
      code: 0,
      stdout: '0f1e-an-identifier\n',
      stderr: '',
    })
    expect(wasRun()).toBe(false)
  })

  it('as exported functions is not run either', async () => {
    const { address } = await serve(accept)
    const env = { 'BASH_FUNC_printf%%': '() { echo polluted; }', 'BASH_FUNC_read%%': '() { echo polluted; }' }
    expect(await register(address, '', env)).toMatchObject({ code: 0, stdout: '0f1e-an-identifier\n' })
  })
})
