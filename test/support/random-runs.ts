/** How a test of made-up cases runs: the same ones each time, or those that the nightly workflow asks for. */
export type RandomRuns = {
  readonly seed: number
  readonly runs: number
  /** Of a failure that is to be seen again. */
  readonly path: string | undefined
  /** Milliseconds after which no further case is made up, nor a failure made smaller. */
  readonly limit: number
}

/**
 * Read from the environment:
 * - `POST_INVOKE_TEST_SEED` and `POST_INVOKE_TEST_PATH`, as a failure tells them;
 * - `POST_INVOKE_TEST_TIMES`: so many times as many cases.
 */
export const randomRuns = ({ seed, runs }: { seed: number; runs: number }): RandomRuns => {
  const { POST_INVOKE_TEST_SEED, POST_INVOKE_TEST_PATH, POST_INVOKE_TEST_TIMES } = process.env
  const times = Number(POST_INVOKE_TEST_TIMES ?? 1)
  return {
    seed: Number(POST_INVOKE_TEST_SEED ?? seed) % 2 ** 31,
    runs: Math.ceil(runs * times),
    path: POST_INVOKE_TEST_PATH,
    limit: 240_000 * Math.max(1, times),
  }
}
