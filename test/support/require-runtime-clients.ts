import { type RuntimeClient, runtimeClients } from './runtime-clients.ts'

/** The real ones. A suite that means them fails without them: a skipped test proves nothing. */
export const realClient = (kind: 'ric3' | 'ric4'): RuntimeClient => {
  const client = runtimeClients.find(candidate => candidate.kind === kind)
  if (client) return client
  throw new Error(
    'Expected the real runtime clients to be installed. Run `bash scripts/install-test-runtimes.sh`, then `set -a; . .cache/test-runtimes.env`.',
  )
}

/** How often a task that burns CPU must not delay its response. POST_INVOKE_TEST_BURNS shortens a run by hand. */
export const burns = Number(process.env.POST_INVOKE_TEST_BURNS ?? 200)

/** How often a function's process is killed in the middle of a task, with each client and companion. */
export const deaths = Number(process.env.POST_INVOKE_TEST_DEATHS ?? 20)
