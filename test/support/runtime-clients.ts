import { join } from 'node:path'
import type { SandboxOptions } from '../../src/sandbox/types.ts'

/** A runtime client that a sandbox can run a handler with. */
export type RuntimeClient = {
  readonly name: string
  readonly kind: 'built-in' | 'ric3' | 'ric4'
  options(handler: string): Pick<SandboxOptions, 'handler' | 'runtimeClient' | 'executionEnvironment' | 'node'>
}

const { POST_INVOKE_TEST_RIC3, POST_INVOKE_TEST_RIC4, POST_INVOKE_TEST_NODE22 = process.execPath } = process.env

/**
 * The built-in client always; AWS's own ones where POST_INVOKE_TEST_RIC3 and POST_INVOKE_TEST_RIC4 name folders of the
 * package aws-lambda-ric. The older one runs on POST_INVOKE_TEST_NODE22, as nodejs22.x does, where that is set.
 */
export const runtimeClients: readonly RuntimeClient[] = [
  { name: 'built-in client', kind: 'built-in', options: handler => ({ handler }) },
  ...(POST_INVOKE_TEST_RIC3 ? [ric3(POST_INVOKE_TEST_RIC3)] : []),
  ...(POST_INVOKE_TEST_RIC4 ? [ric4(POST_INVOKE_TEST_RIC4)] : []),
]

export const builtInClient = runtimeClients[0] as RuntimeClient

function ric3(folder: string): RuntimeClient {
  return {
    name: 'aws-lambda-ric 3',
    kind: 'ric3',
    options: handler => ({
      handler,
      node: POST_INVOKE_TEST_NODE22,
      runtimeClient: [POST_INVOKE_TEST_NODE22, join(folder, 'bin', 'index.mjs'), handler],
      executionEnvironment: 'AWS_Lambda_nodejs22.x',
    }),
  }
}

function ric4(folder: string): RuntimeClient {
  return {
    name: 'aws-lambda-ric 4',
    kind: 'ric4',
    options: handler => ({
      handler,
      runtimeClient: [process.execPath, join(folder, 'index.mjs')],
      executionEnvironment: 'AWS_Lambda_nodejs24.x',
    }),
  }
}
