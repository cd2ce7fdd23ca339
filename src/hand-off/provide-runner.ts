import { type LoadRunner, RUNNER, type RunnerModule } from './find-runner.ts'

/** The layer's own file, so that undici comes with this package. It is not evaluated before there is work. */
const load: LoadRunner = async () => {
  const loaded = (await import('../layer/post-invoke/runner.cjs' as string)) as RunnerModule & {
    default?: RunnerModule
  }
  // A bundler that makes a file of its own of it leaves CommonJS its default alone.
  return loaded.default ?? loaded
}

export const provideRunner = (): void => {
  ;(globalThis as { [RUNNER]?: LoadRunner })[RUNNER] = load
}
