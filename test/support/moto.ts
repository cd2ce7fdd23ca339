// A real SQS-compatible server, moto's, on a loopback port, ended with the tests.
import { type ChildProcess, spawn } from 'node:child_process'
import net from 'node:net'
import { SQSClient } from '@aws-sdk/client-sqs'
import { freePort } from './free-port.ts'

const START_MS = 30_000

/** What a function or a client needs to find it. */
export type Moto = AsyncDisposable & { readonly variables: Record<string, string>; readonly client: SQSClient }

export const startMoto = async (): Promise<Moto> => {
  const folder = process.env.POST_INVOKE_TEST_MOTO
  if (!folder) {
    throw new Error(
      'Expected moto to be installed. Run `bash scripts/install-test-runtimes.sh`, then `set -a; . .cache/test-runtimes.env`.',
    )
  }
  const port = await freePort()
  const program = `from moto.server import main; main(['-H', '127.0.0.1', '-p', '${port}'])`
  const server = spawn('python3', ['-c', program], {
    env: { PATH: process.env.PATH, PYTHONPATH: folder },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let log = ''
  server.stderr?.setEncoding('utf8').on('data', text => {
    log += text
  })
  await answers(server, port, () => log)
  const variables = {
    AWS_ENDPOINT_URL_SQS: `http://127.0.0.1:${port}`,
    AWS_ACCESS_KEY_ID: 'test',
    AWS_SECRET_ACCESS_KEY: 'test',
    AWS_REGION: 'us-east-1',
  }
  const client = new SQSClient({
    endpoint: variables.AWS_ENDPOINT_URL_SQS,
    region: variables.AWS_REGION,
    credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
  })
  return {
    variables,
    client,
    async [Symbol.asyncDispose]() {
      client.destroy()
      const ended = new Promise(resolve => server.once('exit', resolve))
      server.kill('SIGKILL')
      await ended
    },
  }
}

const answers = async (server: ChildProcess, port: number, log: () => string) => {
  const end = performance.now() + START_MS
  while (performance.now() < end && server.exitCode === null) {
    const isUp = await new Promise<boolean>(resolve => {
      const socket = net.connect(port, '127.0.0.1', () => resolve(true))
      socket.on('error', () => resolve(false)).on('connect', () => socket.destroy())
    })
    if (isUp) return
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  server.kill('SIGKILL')
  throw new Error(`Expected moto's server to answer within ${START_MS} ms. Its log:\n${log()}`)
}
