// The function that `post-invoke template --verify` writes, and that `post-invoke verify` calls: it answers at once, and
// defers two tasks that take a while. It tells in its log when what happened, by a clock of its own.
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { withPostInvoke } from '../middleware/with-post-invoke.ts'
import { version } from '../version.ts'
import { toLine, type VerifyAnswer, type VerifyEvent } from './verify-messages.ts'

export const handler = withPostInvoke(async ({ milliseconds = 0 }: VerifyEvent, context): Promise<VerifyAnswer> => {
  const calledAt = performance.now()
  const requestId = context.awsRequestId
  const tell = (what: string) => console.log(toLine({ requestId, what, at: performance.now() - calledAt }))
  for (const name of ['second', 'first']) {
    context.defer(
      async () => {
        tell(`${name} starts`)
        await sleep(milliseconds / 2)
        tell(`${name} ends`)
      },
      { name },
    )
  }
  tell('answers')
  return { verify: 1, requestId, version, node: process.versions.node, client: client() }
})

/** The package that the runtime client is of, as far as its files say so. */
const client = (): string => {
  for (let folder = dirname(process.argv[1] ?? '/'); folder !== dirname(folder); folder = dirname(folder)) {
    const path = join(folder, 'package.json')
    if (!existsSync(path)) continue
    const { name = 'unknown', version: its = '' } = JSON.parse(readFileSync(path, 'utf8'))
    return `${name} ${its}`.trim()
  }
  return 'unknown'
}
