import { type RuntimeClient, runtimeClients } from './runtime-clients.ts'

/** The real ones. A suite that means them fails without them: a skipped test proves nothing. */
export const realClient = (kind: 'ric3' | 'ric4'): RuntimeClient => {
  const client = runtimeClients.find(candidate => candidate.kind === kind)
  if (client) return client
  throw new Error(
    'Expected the real runtime clients to be installed. Run `bash scripts/install-test-runtimes.sh`, then `set -a; . .cache/test-runtimes.env`.',
  )
}

/** The same with a Node.js of another version. */
export const onNode = (node: string, client: RuntimeClient): RuntimeClient => ({
  ...client,
  options(handler) {
    const { runtimeClient = [], ...options } = client.options(handler)
    return { ...options, node, runtimeClient: [node, ...runtimeClient.slice(1)] }
  },
})

/**
 * How often a task that burns CPU must not delay its response: a client whose post is not waited for delays it each time.
 * POST_INVOKE_TEST_BURNS changes it by hand.
 */
export const burns = Number(process.env.POST_INVOKE_TEST_BURNS ?? 40)

/** How many shutdowns must all run their hooks, with each client and companion. */
export const shutdowns = Number(process.env.POST_INVOKE_TEST_SHUTDOWNS ?? 30)

/**
 * How often a function's process is killed around its hand-off, with each client: each of the three moments ten times, in
 * the first invocation and in later ones. What is written synchronously is there or is not, so it takes no more to see it;
 * `npm run soak:hand-off` kills at random, for as long as one likes.
 */
export const handOffDeaths = Number(process.env.POST_INVOKE_TEST_HAND_OFF_DEATHS ?? 60)

/** How often a function's process is killed in the middle of a task, with each client and companion. */
export const deaths = Number(process.env.POST_INVOKE_TEST_DEATHS ?? 20)
