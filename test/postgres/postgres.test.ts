// examples/postgres against a real server, which is asked what connections it has: none may be left behind.
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { createSandbox } from '../../dist/sandbox/index.js'
import { type CompanionName, eventually, layer } from '../support/run.ts'
import { type RuntimeClient, runtimeClients } from '../support/runtime-clients.ts'
import { type Network, openNetwork } from './network.ts'
import { type PostgresServer, startPostgres } from './server.ts'

const TEST_MS = 30_000
const START_MS = 90_000

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))

let server: PostgresServer
let network: Network

beforeAll(async () => {
  server = await startPostgres()
  await server.query(readFileSync(path('../../examples/postgres/schema.sql'), 'utf8'))
  network = await openNetwork(server)
}, START_MS)

afterAll(async () => {
  network?.close()
  await server?.stop()
}, START_MS)

type Setup = { client: RuntimeClient; companion: CompanionName; freeze: boolean }

const setups: Setup[] = runtimeClients.flatMap(client =>
  (['gate', 'internal', 'layer'] as const)
    .filter(companion => companion !== 'gate' || client.kind !== 'ric3')
    .flatMap(companion => [false, true].map(freeze => ({ client, companion, freeze }))),
)

const start = async ({ client, companion, freeze }: Setup, file: string, applicationName: string) => {
  const sandbox = await createSandbox({
    taskRoot: path('../fixtures/postgres'),
    ...client.options(`${file}.handler`),
    layers: companion === 'layer' ? [layer] : [],
    timeout: 20_000,
    freeze,
    environment: {
      POST_INVOKE_COMPANION: companion === 'gate' ? 'embedded' : companion,
      PGHOST: network.host,
      PGPORT: String(network.port),
      PGUSER: 'postgres',
      PGDATABASE: 'postgres',
      PGAPPNAME: applicationName,
    },
  })
  /** Two orders, each answered before its audit record is there, which the release waits for. */
  const order = async () => {
    for (const product of ['tea', 'coffee']) {
      const report = await sandbox.invoke({ body: JSON.stringify({ product }) })
      expect(report).toMatchObject({ status: 'success', timedOut: false })
      expect(report.body().statusCode).toBe(201)
      const { id } = JSON.parse(report.body().body)
      expect(await server.query(`select product from orders where id = ${id}`)).toEqual([{ product }])
      expect(await server.query(`select order_id from audit where order_id = ${id}`)).toEqual([{ order_id: id }])
    }
  }
  return { sandbox, order }
}

let count = 0

describe.each(setups.map(setup => [nameOf(setup), setup] as const))('postgres: %s', (_, setup) => {
  it(
    'has its connection as long as the environment lives, and closes it in the drain, without which it stays',
    async () => {
      const names = { without: `without drain ${count}`, with: `with drain ${count++}` }
      const without = await start(setup, 'without-drain', names.without)
      await using _without = without.sandbox
      const { sandbox, order } = await start(setup, 'index', names.with)
      await using _with = sandbox
      expect(await server.connections(names.with)).toBe(0)
      await without.order()
      await order()
      expect(await server.connections(names.without)).toBe(1)
      expect(await server.connections(names.with)).toBe(1)

      await without.sandbox.shutdown()
      const { processes } = await sandbox.shutdown()
      // Pool.end() resolves when the goodbye is written. When it has been read on this connection, there has been time for
      // the one that was to be closed before it too.
      await eventually(async () => (await server.connections(names.with)) === 0, 'the connection is closed')
      expect(await server.connections(names.without)).toBe(1)
      expect(processes.find(({ process }) => process === 'function')).toMatchObject({ killed: false })
      expect(sandbox.logs.filter(({ text }) => text.includes('middy-post-invoke'))).toEqual([])

      network.notice()
      await eventually(async () => (await server.connections(names.without)) === 0, 'the server has noticed')
    },
    TEST_MS,
  )

  it(
    'leaves it behind when the process is killed: nothing can run then',
    async () => {
      const name = `killed ${count++}`
      const { sandbox, order } = await start(setup, 'index', name)
      await using _sandbox = sandbox
      await order()
      process.kill(sandbox.runtimePid as number, 'SIGKILL')
      await eventually(() => sandbox.runtimePid === undefined, 'the process is gone')
      expect(await server.connections(name)).toBe(1)
      // The next environment opens its own, and closes only that.
      await order()
      expect(await server.connections(name)).toBe(2)
      await sandbox.shutdown()
      await eventually(async () => (await server.connections(name)) === 1, 'the second connection is closed')
      network.notice()
      await eventually(async () => (await server.connections(name)) === 0, 'the server has noticed')
    },
    TEST_MS,
  )
})

function nameOf({ client, companion, freeze }: Setup): string {
  return `${client.name}, ${companion}${freeze ? ', frozen between invocations' : ''}`
}
