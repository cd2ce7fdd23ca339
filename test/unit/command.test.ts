// How long a command waits for a Telemetry API that tells late, or nothing.
import { once } from 'node:events'
import http from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { networkInterfaces } from 'node:os'
import { json } from 'node:stream/consumers'
import { afterEach, describe, expect, it } from '@jest/globals'
import { createCommand } from '../../src/extension/command.ts'
import { recordLog } from './helpers.ts'

let cleanUp = new AsyncDisposableStack()
afterEach(async () => {
  await cleanUp.disposeAsync()
  cleanUp = new AsyncDisposableStack()
})

const start = async () => {
  let uri = new URL('http://nowhere')
  const api = http.createServer(async (request, response) => {
    const { destination } = (await json(request)) as { destination: { URI: string } }
    uri = new URL(destination.URI)
    response.end()
  })
  await once(api.listen(0, '127.0.0.1'), 'listening')
  cleanUp.defer(() => {
    api.closeAllConnections()
    api.close()
  })
  const log = recordLog()
  const settings = { command: 'exit 3', shell: '/bin/sh', on: ['response' as const, 'error' as const] }
  const address = `127.0.0.1:${(api.address() as AddressInfo).port}`
  const command = await createCommand(settings, 'ours', address, log)
  return {
    command,
    log,
    uri: () => uri,
    tell: (type: string, requestId: string) => post(uri, JSON.stringify([runtimeEvent(type, requestId)])),
  }
}

const runtimeEvent = (type: string, requestId: string) => ({ type, record: { requestId, status: 'success' } })

/** @returns the status, or what went wrong. */
const post = async ({ port, pathname: path }: URL, body: string | Buffer, method = 'POST') => {
  const request = http.request({ host: '127.0.0.1', port, path, method, agent: false })
  request.end(body)
  try {
    const [response] = (await once(request, 'response')) as [http.IncomingMessage]
    request.on('error', () => {})
    response.on('error', () => {}).resume()
    return response.statusCode
  } catch (error) {
    return (error as NodeJS.ErrnoException).code
  }
}

/** The deadline of each: a command that waits for it fails its test. */
const FAR = 60_000
const missed = (id: string) =>
  `POST_INVOKE_COMMAND did not run after request ${id}: the Telemetry API has not told of its end`
const failed = (id: string) => `POST_INVOKE_COMMAND after request ${id} ended with 3`

describe('a command whose API tells nothing', () => {
  it('does not wait for the deadline, says so, and is not taken for that of a failure at the end', async () => {
    const { command, log } = await start()
    for (const id of ['r1', 'r2']) await command.after(id, Date.now() + FAR, id === 'r2')
    await command.afterLast(Date.now() + FAR)
    expect(log.of('error')).toEqual([missed('r1'), missed('r2')])
  })

  it('waits for the end of a long handler once it has been told of anything', async () => {
    const { command, log, tell } = await start()
    const running = command.after('r1', Date.now() + FAR, false)
    await tell('platform.start', 'r1')
    await new Promise(resolve => setTimeout(resolve, 2_500))
    expect(log.of('error')).toEqual([])
    await tell('platform.runtimeDone', 'r1')
    await running
    expect(log.of('error')).toEqual([failed('r1')])
  })

  it('runs again when the API does', async () => {
    const { command, log, tell } = await start()
    await command.after('r1', Date.now() + FAR, true)
    await tell('platform.runtimeDone', 'r2')
    await command.after('r2', Date.now() + FAR, true)
    expect(log.of('error')).toEqual([missed('r1'), failed('r2')])
  })
})

describe('a command whose API tells of an end after the time of its invocation', () => {
  const overrun = async () => {
    const started = await start()
    await started.tell('platform.start', 'r1')
    await started.command.after('r1', Date.now() + 20, false)
    expect(started.log.of('error')).toEqual([])
    return started
  }

  it('runs in the next one', async () => {
    const { command, log, tell } = await overrun()
    await tell('platform.runtimeDone', 'r1')
    await tell('platform.runtimeDone', 'r2')
    await command.after('r2', Date.now() + FAR, true)
    expect(log.of('error')).toEqual([failed('r1'), failed('r2')])
  })

  it('says so there when it never does', async () => {
    const { command, log, tell } = await overrun()
    await tell('platform.runtimeDone', 'r2')
    await command.after('r2', Date.now() + FAR, true)
    expect(log.of('error')).toEqual([missed('r1'), failed('r2')])
  })

  it.each(['told', 'never told'])('runs as the environment ends, %s', async told => {
    const { command, log, tell } = await overrun()
    if (told === 'told') await tell('platform.runtimeDone', 'r1')
    for (let time = 1; time <= 2; time++) await command.afterLast(Date.now() + FAR)
    expect(log.of('error')).toEqual([failed('r1')])
  })
})

describe('what listens for the end of invocations', () => {
  const forged = JSON.stringify([runtimeEvent('platform.runtimeDone', 'r1')])

  it('is at an address that nobody can know', async () => {
    const [first, second] = [await start(), await start()]
    expect(first.uri().hostname).toBe('sandbox.localdomain')
    expect(first.uri().pathname).toMatch(/^\/[0-9a-f-]{36}$/)
    expect(first.uri().pathname).not.toBe(second.uri().pathname)
  })

  it('takes nothing from anybody else: not at another path, not by another method', async () => {
    const { command, log, tell, uri } = await start()
    await tell('platform.start', 'r1')
    const running = command.after('r1', Date.now() + FAR, false)
    for (const path of ['/', `${uri().pathname}/`, uri().pathname.toUpperCase().slice(0, -1)]) {
      expect(await post(new URL(path, uri()), forged)).toBe(404)
    }
    expect(await post(uri(), forged, 'PUT')).toBe(404)
    expect(log.of('error')).toEqual([])
    await tell('platform.runtimeDone', 'r1')
    await running
    expect(log.of('error')).toEqual([failed('r1')])
  })

  it('takes no more than a bound, and goes on', async () => {
    const { command, log, tell, uri } = await start()
    expect(['EPIPE', 'ECONNRESET', 413]).toContain(await post(uri(), Buffer.alloc(50_000_000, 32)))
    await tell('platform.runtimeDone', 'r1')
    await command.after('r1', Date.now() + FAR, true)
    expect(log.of('error')).toEqual([failed('r1')])
  })

  it('is reached from this machine alone', async () => {
    const { uri } = await start()
    const others = Object.values(networkInterfaces())
      .flat()
      .filter(address => address !== undefined && !address.internal && address.family === 'IPv4')
    for (const address of others) {
      const socket = connect(Number(uri().port), (address as { address: string }).address)
      const [event] = await Promise.race([
        once(socket, 'connect').then(() => ['connect']),
        new Promise<string[]>(resolve => socket.on('error', () => resolve(['error']))),
      ])
      socket.destroy()
      expect(event).toBe('error')
    }
  })
})
