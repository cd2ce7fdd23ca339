// What runs handed-off work in the function's own process, where no layer does.
import { builtIn } from '../built-in.ts'
import { RUNNER, type RunWaiting } from './find-runner.ts'
import type { Runner } from './runner.ts'
import { hasWaiting } from './spool.ts'

type RunnerModule = typeof import('./runner.ts')

export const provideRunner = (): void => {
  ;(globalThis as { [RUNNER]?: RunWaiting })[RUNNER] = (settings, log, deadline, isLast) =>
    hasWaiting(settings.spool, isLast) ? run(settings, log, deadline, isLast) : undefined
}

let runner: Promise<Runner> | undefined

const run = async (...[settings, log, deadline, isLast]: Parameters<RunWaiting>): Promise<void> => {
  const isLambda = process.env.AWS_LAMBDA_RUNTIME_API !== undefined
  // The client asks for its next invocation first, where it is not us that it waits for.
  await new Promise<void>(resolve => setImmediate(resolve))
  try {
    // A job may end its thread, and never the function's process. Outside Lambda it sees what a test has mocked.
    runner ??= load().then(({ createRunner }) => createRunner({ ...settings, log, isolatesJobs: isLambda }))
    await (await runner).run(deadline, isLast)
    if (!isLambda) removeIfEmpty(settings.spool)
  } catch (error) {
    runner = undefined
    log.error('handed-off work cannot be run; it stays in the spool', error)
  }
}

/** The layer's own file, so that undici comes with this package. It is not evaluated before there is work. */
const load = async (): Promise<RunnerModule> => {
  const loaded = (await import('../layer/post-invoke/runner.cjs' as string)) as RunnerModule & {
    default?: RunnerModule
  }
  // A bundler that makes a file of its own of it leaves CommonJS its default alone.
  return loaded.default ?? loaded
}

/** Outside Lambda each process has a spool of its own, and nobody else to tidy up. */
const removeIfEmpty = (folder: string) => {
  try {
    builtIn('node:fs').rmdirSync(folder)
  } catch {}
}
