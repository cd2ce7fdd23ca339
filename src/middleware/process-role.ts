// Which process this is: the function's own or a child of it, and its main thread or a worker of it.
import { isRic3 } from './ric3.ts'
import { isRic4 } from './ric4.ts'

const pid = String(process.pid)

// Set as the module loads: a child process that is started from here on inherits it.
if (process.env.AWS_LAMBDA_RUNTIME_API) process.env.POST_INVOKE_PID ??= pid

/**
 * A child of the function's process inherits Lambda's variables, and would register or write in its parent's name. It is told
 * by the variable above; or, where it was started before that was set, by the runtime client that it lacks: in Lambda's own
 * runtimes there is one before the function is loaded.
 *
 * @returns where this process' own runtime client talks to Lambda: `undefined` outside Lambda and in a known child, the empty
 * text where there is no client.
 */
export function ownRuntimeApi(isMainThread: boolean): string | undefined {
  const { AWS_LAMBDA_RUNTIME_API, POST_INVOKE_PID, AWS_EXECUTION_ENV, AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA } =
    process.env
  if (!AWS_LAMBDA_RUNTIME_API || (POST_INVOKE_PID && POST_INVOKE_PID !== pid)) return undefined
  const hasClient = isRic3() || isRic4() || AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA
  return isMainThread && !hasClient && AWS_EXECUTION_ENV?.startsWith('AWS_Lambda_nodejs') ? '' : AWS_LAMBDA_RUNTIME_API
}

/**
 * Asked without node:worker_threads, which takes 2 ms to load where nobody has loaded it: a worker cannot change the
 * directory. https://nodejs.org/api/worker_threads.html#class-worker
 */
export function isInMainThread(): boolean {
  try {
    process.chdir('.')
    return true
  } catch (error) {
    return !/^ERR_WORKER/.test((error as { code: string }).code) // and not for the directory's sake
  }
}
