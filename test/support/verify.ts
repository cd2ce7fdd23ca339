// `post-invoke verify` with an AWS CLI that speaks to the tests' own functions.
import { once } from 'node:events'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { type Ended, postInvoke, root } from './command-line.ts'

/** A function as AWS would have it. */
export type Deployed = {
  readonly runtime: string
  /** Resolves when the caller would have its answer. */
  invoke(event: unknown): Promise<string>
  /** All that is in its log by now. */
  log(): readonly string[]
}

export type Kit = AsyncDisposable & {
  /** Where `template --verify` has put the function. */
  readonly taskRoot: string
  readonly folder: string
  verify(functions: Readonly<Record<string, Deployed>>, args?: readonly string[]): Promise<Ended>
}

export const createKit = async (): Promise<Kit> => {
  const folder = mkdtempSync(join(tmpdir(), 'post-invoke-verify-test-'))
  const written = await postInvoke(folder, ['template', '--verify', '--out', 'kit'])
  if (written.code !== 0) throw new Error(written.stderr)
  const aws = join(folder, 'aws')
  writeFileSync(aws, `#!/bin/sh\nexec '${process.execPath}' '${join(root, 'test/fixtures/aws/aws.mjs')}' "$@"\n`)
  chmodSync(aws, 0o755)
  return {
    folder,
    taskRoot: join(folder, 'kit', 'function'),
    async verify(functions, args = []) {
      await using server = await serve(functions)
      const env = { PATH: [folder, process.env.PATH].join(delimiter), AWS_OF_THE_TEST: server.url }
      return await postInvoke(folder, ['verify', ...Object.keys(functions), '--task-time', '2', ...args], { env })
    },
    async [Symbol.asyncDispose]() {
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

type Asked = {
  readonly operation: string
  readonly options: Readonly<Record<string, string>>
  readonly payload?: unknown
}

const STREAM = '2026/01/01/[$LATEST]0123'

const serve = async (functions: Readonly<Record<string, Deployed>>) => {
  const answer = async ({ operation, options, payload }: Asked): Promise<object> => {
    const name = options['--function-name'] ?? options['--log-group-name']?.replace('logs-of-', '') ?? ''
    const deployed = functions[name]
    if (!deployed) return { error: `An error occurred (ResourceNotFoundException): ${name}` }
    if (operation === 'invoke') return { StatusCode: 200, payload: await deployed.invoke(payload) }
    const events = deployed.log().map(message => ({ message, logStreamName: STREAM }))
    if (operation === 'filter-log-events') return { events }
    if (operation === 'get-log-events') return { events: options['--log-stream-name'] === STREAM ? events : [] }
    return {
      FunctionArn: `arn:aws:lambda:eu-central-1:123456789012:function:${name}`,
      Runtime: deployed.runtime,
      Architectures: ['arm64'],
      LoggingConfig: { LogGroup: `logs-of-${name}` },
    }
  }
  const server = createServer(async (request, response) => {
    response.end(JSON.stringify(await answer(JSON.parse(await text(request)))))
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    },
  }
}
