// The package as functions bundle it, to be loaded as often as a test likes, each time into a process that the test makes
// up: what it takes of Node.js is handed to it. The package knows nothing of that, and pays nothing for it.
import { readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

/** One change of the source, to see that tests notice. */
export type Break = {
  /** Below src. */
  readonly file: string
  /** What stands there once. */
  readonly text: string
  readonly by: string
}

/** What the package, and Middy, take from around them. */
export type Surroundings = {
  process: object
  globalThis: object
  performance: { now(): number }
  Date: unknown
  console: object
  setTimeout: unknown
  clearTimeout: unknown
  setImmediate: unknown
  require: (id: string) => unknown
}

const src = fileURLToPath(new URL('../../src/', import.meta.url))

const entry = `
  export { default as postInvoke } from './index.ts'
  export { withPostInvoke } from './middleware/with-post-invoke.ts'
  export { onShutdown } from './middleware/on-shutdown.ts'
  export { default as middy } from '@middy/core'`

/** Loads the package anew, and returns its exports. */
export type Load = (surroundings: Surroundings) => any

export const bundleCore = async (broken?: Break): Promise<Load> => {
  const { outputFiles } = await build({
    stdin: { contents: entry, resolveDir: src, loader: 'ts' },
    absWorkingDir: dirname(src),
    bundle: true,
    write: false,
    platform: 'node',
    format: 'cjs',
    target: 'node22',
    loader: { '.sh': 'text' },
    plugins: [
      {
        name: 'break',
        setup({ onLoad }) {
          onLoad({ filter: /\.ts$/ }, ({ path }) => {
            let contents = readFileSync(path, 'utf8')
            if (broken && path === join(src, broken.file)) {
              if (contents.split(broken.text).length !== 2) {
                throw new Error(`Expected ${relative(src, path)} to have this once: ${broken.text}`)
              }
              contents = contents.replace(broken.text, () => broken.by)
            }
            return { contents, loader: 'ts' }
          })
        },
      },
    ],
  })
  const names = [
    ...['process', 'globalThis', 'performance', 'Date', 'console', 'setTimeout', 'clearTimeout', 'setImmediate'],
    'require',
  ] as const
  const run = new Function('module', 'exports', ...names, outputFiles[0]?.text ?? '')
  return surroundings => {
    const module = { exports: {} }
    run(module, module.exports, ...names.map(name => (surroundings as any)[name]))
    return module.exports
  }
}
