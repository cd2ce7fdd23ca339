// A real PostgreSQL server of the tests' own: made in a temporary folder, on a loopback port, ended with the tests.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { freePort } from '../support/free-port.ts'

const INITDB_MS = 60_000
const START_MS = 20_000
const STOP_MS = 10_000

export type PostgresServer = {
  readonly host: string
  readonly port: number
  /** How many connections the server has under this name. */
  connections(applicationName: string): Promise<number>
  query<Row>(statement: string): Promise<Row[]>
  stop(): Promise<void>
}

export const startPostgres = async (): Promise<PostgresServer> => {
  const folder = await mkdtemp(join(tmpdir(), 'postgres-'))
  // It refuses to run as root, so it is given to somebody who owns nothing.
  const isRoot = process.getuid?.() === 0
  if (isRoot) await run('chown', ['nobody', folder])
  await chmod(folder, 0o700)
  // --pdeathsig: it ends with this process, however that ends.
  const unprivileged = [
    '--pdeathsig=INT',
    ...(isRoot ? ['--reuid=nobody', '--regid=nogroup', '--clear-groups'] : []),
    '--',
  ]
  const data = join(folder, 'data')
  const host = '127.0.0.1'
  const port = await freePort()

  let server: ChildProcess | undefined
  let log = ''
  const stop = async () => {
    if (server) await end(server)
    await rm(folder, { recursive: true, force: true })
  }

  try {
    await run('setpriv', [
      ...[...unprivileged, binary('initdb'), '--pgdata', data, '--username', 'postgres', '--auth', 'trust'],
      ...['--encoding', 'UTF8', '--locale', 'C', '--no-sync'],
    ])
    server = spawn(
      'setpriv',
      [
        ...[...unprivileged, binary('postgres'), '-D', data, '-k', folder, '-h', host, '-p', String(port)],
        ...['-c', 'fsync=off'],
      ],
      { cwd: folder, env: {}, stdio: ['ignore', 'ignore', 'pipe'] },
    )
    server.stderr?.setEncoding('utf8').on('data', text => {
      log += text
    })
    const client = await connect({ host, port }, server, () => log)
    return {
      host,
      port,
      async query<Row>(statement: string) {
        return (await client.query(statement)).rows as Row[]
      },
      async connections(applicationName) {
        const { rows } = await client.query(
          'select count(*)::integer as count from pg_stat_activity where application_name = $1',
          [applicationName],
        )
        return rows[0].count
      },
      async stop() {
        await client.end()
        await stop()
      },
    }
  } catch (error) {
    await stop()
    throw error
  }
}

const binary = (name: string): string => {
  const folder = process.env.POST_INVOKE_TEST_POSTGRES
  if (folder) return join(folder, name)
  throw new Error(
    'Expected POST_INVOKE_TEST_POSTGRES to be set. Run: bash scripts/install-test-runtimes.sh && source .cache/test-runtimes.env',
  )
}

const run = async (command: string, args: string[]): Promise<void> => {
  const child = spawn(command, args, { cwd: '/', stdio: ['ignore', 'ignore', 'pipe'], timeout: INITDB_MS })
  let errors = ''
  child.stderr.setEncoding('utf8').on('data', text => {
    errors += text
  })
  const [code] = await once(child, 'close')
  if (code !== 0) throw new Error(`${command} ended with ${code}: ${errors}`)
}

const connect = async (
  address: { host: string; port: number },
  server: ChildProcess,
  log: () => string,
): Promise<pg.Client> => {
  const deadline = performance.now() + START_MS
  for (;;) {
    const client = new pg.Client({ ...address, user: 'postgres', database: 'postgres' })
    try {
      await client.connect()
      return client
    } catch (error) {
      if (server.exitCode !== null || performance.now() > deadline) {
        throw new Error(`The server cannot be reached. Its log:\n${log()}`, { cause: error })
      }
      await sleep(50)
    }
  }
}

/** SIGINT is its "fast shutdown": it ends all connections and writes what has to be written. */
const end = async (server: ChildProcess): Promise<void> => {
  if (server.exitCode !== null || server.signalCode !== null) return
  const ended = once(server, 'close')
  server.kill('SIGINT')
  const timer = setTimeout(() => server.kill('SIGQUIT'), STOP_MS)
  await ended
  clearTimeout(timer)
}
