// The environment variables of handed-off work, for both ends of the spool. A wrong value is an error at init.
import { builtIn } from '../built-in.ts'
import { readPath, readVariable, type Variables } from '../variables.ts'

/**
 * `POST_INVOKE_SPOOL`: the folder in which handed-off work waits, an absolute path. The default is in /tmp, which is the
 * environment's own and survives its processes; outside Lambda it is this process' own.
 */
export function readSpool(variables: Variables = process.env): string {
  const path = readPath('POST_INVOKE_SPOOL', variables)
  if (path !== undefined) return path
  return variables.AWS_LAMBDA_RUNTIME_API === undefined
    ? `${variables.TMPDIR ?? '/tmp'}/middy-post-invoke-${process.pid}`
    : '/tmp/middy-post-invoke'
}

/**
 * `POST_INVOKE_JOBS`: the module whose functions are jobs, a file inside the folder of the function's code.
 *
 * @returns the absolute path, or `undefined`.
 */
export function readJobsModule(variables: Variables = process.env): string | undefined {
  const folder = taskRoot(variables)
  return readVariable('POST_INVOKE_JOBS', variables, `the path of a file inside ${folder}`, find)
  function find(given: string) {
    const { resolve, relative } = builtIn('node:path')
    const file = resolve(folder, given)
    const isInside = !relative(folder, file).startsWith('../')
    return isInside && builtIn('node:fs').statSync(file, { throwIfNoEntry: false })?.isFile() ? file : undefined
  }
}

/** `POST_INVOKE_HAND_OFF_BUDGET`: how many milliseconds a hold waits for handed-off work. Default: a part of the time left. */
export const readHandOffBudget = (variables: Variables = process.env): number | undefined =>
  readVariable(
    'POST_INVOKE_HAND_OFF_BUDGET',
    variables,
    'a whole number of milliseconds from 0 to 900000, or nothing',
    given => (/^\d{1,6}$/.test(given) && Number(given) <= 900_000 ? Number(given) : undefined),
  )

/** `POST_INVOKE_OVERFLOW_QUEUE_URL`: the queue of SQS for handed-off work that could not be done in time. */
export const readOverflowQueue = (variables: Variables = process.env): string | undefined =>
  readVariable('POST_INVOKE_OVERFLOW_QUEUE_URL', variables, 'the URL of a queue, or nothing', given =>
    /^https?:$/.test(URL.parse(given)?.protocol ?? '') ? given : undefined,
  )

/**
 * Where the function's code lies. Extensions are not told, for on Lambda it is always the same; the sandbox, and who has an
 * image with another folder, say it with `POST_INVOKE_TASK_ROOT`.
 */
export const taskRoot = (variables: Variables = process.env): string =>
  variables.POST_INVOKE_TASK_ROOT ||
  variables.LAMBDA_TASK_ROOT ||
  (variables.AWS_LAMBDA_RUNTIME_API === undefined ? process.cwd() : '/var/task')
