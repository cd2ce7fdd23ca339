// The module that POST_INVOKE_JOBS names. The layer runs it, in a process of its own.
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { JobContext } from 'middy-post-invoke/hand-off'

const run = promisify(execFile)

export const compress = async ({ file }: { file: string }, { signal }: JobContext) => {
  await run('/bin/gzip', ['--force', file], { signal })
}
