// The AWS CLI of the user, with their credentials: it is called, and answers JSON.
import { spawn } from 'node:child_process'
import { text } from 'node:stream/consumers'
import { CommandError } from './errors.ts'

export type AwsOptions = { readonly region?: string; readonly profile?: string }

/** @throws CommandError where there is no AWS CLI, and where it fails. */
export const createAws =
  ({ region, profile }: AwsOptions) =>
  async (service: string, operation: string, args: readonly string[]): Promise<any> => {
    const chosen = [...(region ? ['--region', region] : []), ...(profile ? ['--profile', profile] : [])]
    const all = [service, operation, ...args, ...chosen, '--output', 'json']
    const { code, stdout, stderr } = await run(all)
    if (code !== 0) throw new CommandError(`aws ${service} ${operation} ended with ${code}. ${stderr.trim()}`)
    return stdout.trim() === '' ? {} : JSON.parse(stdout)
  }

export type Aws = ReturnType<typeof createAws>

const run = (args: readonly string[]) =>
  new Promise<{ code: number | null; stdout: string; stderr: string }>((resolve, reject) => {
    // What it prints is read here: it must not be shown in a pager.
    const child = spawn('aws', args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, AWS_PAGER: '' } })
    const output = Promise.all([text(child.stdout), text(child.stderr)])
    child.once('error', error =>
      reject(new CommandError(`Expected the AWS CLI, as the command aws: ${error.message}. Install it, and sign in.`)),
    )
    child.once('close', code => output.then(([stdout, stderr]) => resolve({ code, stdout, stderr }), reject))
  })
