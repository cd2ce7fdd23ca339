import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import type { Settings } from './settings.ts'

export type Variables = {
  readonly function: Readonly<Record<string, string>>
  readonly extension: Readonly<Record<string, string>>
  /** Removes what was made for them. */
  remove(): void
}

/** The variables of the function's process and of external extensions. Nothing of the host's but PATH and TMPDIR. */
export const createVariables = (settings: Settings, address: string): Variables => {
  const { node, layers, environment } = settings
  // On Lambda /tmp is the environment's own, from reset to reset. Here only what the package keeps there is.
  const folder = mkdtempSync(join(tmpdir(), 'sandbox-'))
  const given = {
    PATH: [dirname(node), process.env.PATH, ...layers.map(layer => join(layer, 'bin'))].join(delimiter),
    TMPDIR: process.env.TMPDIR,
    TZ: ':UTC',
    LANG: 'en_US.UTF-8',
    AWS_REGION: 'us-east-1',
    AWS_DEFAULT_REGION: 'us-east-1',
    AWS_EXECUTION_ENV: settings.executionEnvironment,
    AWS_LAMBDA_FUNCTION_NAME: 'sandbox',
    AWS_LAMBDA_FUNCTION_VERSION: '$LATEST',
    AWS_LAMBDA_FUNCTION_MEMORY_SIZE: '128',
    AWS_LAMBDA_INITIALIZATION_TYPE: 'on-demand',
    AWS_LAMBDA_LOG_GROUP_NAME: '/aws/lambda/sandbox',
    AWS_LAMBDA_LOG_STREAM_NAME: 'sandbox',
    LAMBDA_TASK_ROOT: settings.taskRoot,
    LAMBDA_RUNTIME_DIR: '/var/runtime',
    NODE_PATH: layers.map(layer => join(layer, 'nodejs', 'node_modules')).join(delimiter) || undefined,
    POST_INVOKE_FOLDER: folder,
    POST_INVOKE_SPOOL: join(folder, 'spool'),
    // On Lambda it is always /var/task, and extensions are not told.
    POST_INVOKE_TASK_ROOT: settings.taskRoot,
    // On Lambda the package finds its layer in /opt/extensions. Here layers stay where they are.
    POST_INVOKE_COMPANION: settings.extensions.has('post-invoke') ? 'layer' : undefined,
    ...environment,
    _HANDLER: settings.handler,
    AWS_LAMBDA_RUNTIME_API: address,
  }
  const all = Object.entries(given).filter((entry): entry is [string, string] => entry[1] !== undefined)
  return {
    function: Object.fromEntries(all),
    extension: Object.fromEntries(all.filter(([name]) => !isFunctionOnly(name))),
    remove() {
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html: what extensions do not get to see. */
const isFunctionOnly = (name: string) =>
  name.startsWith('_') ||
  [
    'AWS_EXECUTION_ENV',
    'AWS_LAMBDA_LOG_GROUP_NAME',
    'AWS_LAMBDA_LOG_STREAM_NAME',
    'LAMBDA_TASK_ROOT',
    'LAMBDA_RUNTIME_DIR',
    'NODE_PATH',
  ].includes(name)
