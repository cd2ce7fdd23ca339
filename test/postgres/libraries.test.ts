// Idle connections of examples/libraries in a frozen environment, with a real server, which is asked what connections it has.
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { eventually, startRun } from '../support/run.ts'
import { builtInClient as client } from '../support/runtime-clients.ts'
import { type PostgresServer, startPostgres } from './server.ts'

const TEST_MS = 30_000
const START_MS = 90_000

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))

let server: PostgresServer
beforeAll(async () => {
  server = await startPostgres()
  await server.query(readFileSync(path('../../examples/postgres/schema.sql'), 'utf8'))
}, START_MS)
afterAll(() => server?.stop(), START_MS)

const start = (name: string, handler: string, applicationName: string) =>
  startRun({
    client,
    companion: 'layer',
    taskRoot: path('../../examples/libraries'),
    handler: `${name}.${handler}`,
    freeze: true,
    environment: {
      PGHOST: server.host,
      PGPORT: String(server.port),
      PGUSER: 'postgres',
      PGDATABASE: 'postgres',
      PGAPPNAME: applicationName,
    },
  })

describe.each(['pg', 'drizzle', 'typeorm'])('%s', name => {
  it(
    'has no connection while the environment is frozen, and so none that could break',
    async () => {
      const run = await start(name, 'handler', name)
      await using _sandbox = run.sandbox
      for (let invocation = 0; invocation < 3; invocation++) {
        const report = await run.invoke({})
        expect(report).toMatchObject({ kind: 'response', status: 'success' })
        const { id } = report.body()
        expect(await server.query(`select order_id from audit where order_id = ${id}`)).toEqual([
          { order_id: String(id) },
        ])
        await eventually(async () => (await server.connections(name)) === 0, 'the server has read the goodbye')
      }
      expect(run.logged('')).toEqual([])
    },
    TEST_MS,
  )

  it(
    'keeps one otherwise',
    async () => {
      const applicationName = `${name} otherwise`
      const run = await start(name, 'otherwise', applicationName)
      await using _sandbox = run.sandbox
      expect(await run.invoke({})).toMatchObject({ kind: 'response', status: 'success' })
      expect(await server.connections(applicationName)).toBe(1)
    },
    TEST_MS,
  )
})
