// How long a command waits for a Telemetry API that tells late, or nothing.
import { once } from 'node:events'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
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
  let port = 0
  const api = http.createServer(async (request, response) => {
    const { destination } = (await json(request)) as { destination: { URI: string } }
    port = Number(new URL(destination.URI).port)
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
    tell: async (type: string, requestId: string) => {
      const body = JSON.stringify([{ type, record: { requestId, status: 'success' } }])
      const request = http.request({ host: '127.0.0.1', port, method: 'POST', agent: false }).end(body)
      const [response] = await once(request, 'response')
      await once(response.resume(), 'end')
    },
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
  }, 20_000)

  it('waits for the end of a long handler once it has been told of anything', async () => {
    const { command, log, tell } = await start()
    const running = command.after('r1', Date.now() + FAR, false)
    await tell('platform.start', 'r1')
    await new Promise(resolve => setTimeout(resolve, 2_500))
    expect(log.of('error')).toEqual([])
    await tell('platform.runtimeDone', 'r1')
    await running
    expect(log.of('error')).toEqual([failed('r1')])
  }, 20_000)

  it('runs again when the API does', async () => {
    const { command, log, tell } = await start()
    await command.after('r1', Date.now() + FAR, true)
    await tell('platform.runtimeDone', 'r2')
    await command.after('r2', Date.now() + FAR, true)
    expect(log.of('error')).toEqual([missed('r1'), failed('r2')])
  }, 20_000)
})
