import { readFileSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { resolve } from 'node:path'
import { buildSync, type Plugin } from 'esbuild'
import { defineConfig } from 'tsup'
import { childText } from './scripts/companion-text.ts'
import { internalNames } from './scripts/internal-names.ts'

/** A module with all that it imports, as one CommonJS script. */
const scriptOf = (path: string): string => {
  const { outputFiles } = buildSync({
    entryPoints: [path],
    bundle: true,
    write: false,
    minify: true,
    platform: 'node',
    format: 'cjs',
    target: 'node22',
  })
  return outputFiles[0]?.text ?? ''
}

/** What the command line is bundled with. */
const bundled = ['commander', 'yaml']

/** Their licences ask to be told along with every copy. */
const licences = (names: readonly string[]) =>
  names.map(name => `/*\n${name}\n\n${readFileSync(`node_modules/${name}/LICENSE`, 'utf8')}*/`).join('\n')

/** Of `node:sqlite`, which undici names, it is all of the name. */
const removeNodeProtocol = false

/** A file of the layer, which the function's process loads where there is no layer. */
const runner = /\/layer\/post-invoke\/runner\.cjs$/

const inFunction = {
  format: 'esm',
  target: 'node22',
  esbuildOptions(options: object) {
    Object.assign(options, internalNames)
  },
  removeNodeProtocol,
  dts: false,
  splitting: false,
  sourcemap: false,
} as const

const companionScript: Plugin = {
  name: 'post-invoke.sh',
  setup(build) {
    build.onLoad({ filter: /\/post-invoke\.sh$/ }, ({ path }) => ({
      contents: childText(readFileSync(path, 'utf8')),
      loader: 'text',
    }))
  },
}

const inLayer = {
  outDir: 'dist/layer/post-invoke',
  format: 'cjs',
  target: 'node22',
  outExtension: () => ({ js: '.cjs' }),
  minify: true,
  removeNodeProtocol,
  dts: false,
  splitting: false,
  sourcemap: false,
} as const

// Types come from `tsc -p tsconfig.build.json`; the layer is packed by scripts/build-layer.js. The CDK's own types are not
// here, so those of src/cdk stand beside it as its users get them (a test makes them anew where the CDK is installed).
export default defineConfig([
  {
    entry: {
      index: 'src/index.ts',
      handler: 'src/handler.ts',
      'hand-off/embedded': 'src/hand-off/embedded.ts',
      metrics: 'src/metrics.ts',
      preload: 'src/preload.ts',
      'testing/index': 'src/testing/index.ts',
      'cli/verify-function': 'src/cli/verify-function.ts',
    },
    external: [runner],
    esbuildPlugins: [
      {
        // What handlers without Middy need is in `index.js`: a bundle of both entries has one engine.
        name: 'handler',
        setup(build) {
          build.onResolve({ filter: /^\.\// }, ({ importer }) =>
            importer === resolve('src/handler.ts') ? { path: './index.js', external: true } : undefined,
          )
        },
      },
      companionScript,
    ],
    ...inFunction,
  },
  {
    // It goes with `index.js`, whose class its errors are of: with a copy of its own, `instanceof` would not know them.
    entry: { 'hand-off/index': 'src/hand-off/index.ts' },
    esbuildPlugins: [
      {
        name: 'one class',
        setup(build) {
          build.onResolve({ filter: /\/post-invoke-error\.ts$/ }, () => ({ path: '../index.js', external: true }))
        },
      },
      companionScript,
    ],
    ...inFunction,
  },
  {
    entry: {
      'job-handler': 'src/job-handler.ts',
      'cdk/index': 'src/cdk/index.ts',
      'sandbox/index': 'src/sandbox/index.ts',
      'sandbox/runtime-client': 'src/sandbox/runtime-client.ts',
      'cli/observer': 'src/cli/observer.ts',
      'cli/probe': 'src/cli/probe.ts',
    },
    format: 'esm',
    target: 'node22',
    external: [runner],
    removeNodeProtocol,
    dts: false,
    splitting: false,
    sourcemap: false,
  },
  {
    // The command line, with what it parses with; the sandbox is the one beside it.
    entry: { cli: 'src/cli.ts' },
    format: 'esm',
    target: 'node22',
    noExternal: bundled,
    footer: { js: licences(bundled) },
    esbuildPlugins: [
      {
        name: 'command line',
        setup(build) {
          // Its ES modules, which it offers to browsers alone.
          build.onResolve({ filter: /^yaml$/ }, () => ({ path: resolve('node_modules/yaml/browser/index.js') }))
          build.onResolve({ filter: /\/sandbox\/index\.ts$/ }, () => ({ path: './sandbox/index.js', external: true }))
        },
      },
    ],
    removeNodeProtocol,
    dts: false,
    splitting: false,
    sourcemap: false,
  },
  {
    // What the layer's companion, a shell script, starts where there is work for Node.js: CommonJS, which starts faster than
    // ESM; and what runs a command.
    entry: {
      worker: 'src/extension/worker.ts',
      command: 'src/extension/command.ts',
    },
    external: ['./command.cjs', './runner.cjs'],
    ...inLayer,
  },
  {
    // What runs handed-off work, there and in the function's process: a file of its own, loaded when there is some.
    entry: { runner: 'src/hand-off/runner.ts' },
    noExternal: ['undici'],
    esbuildPlugins: [
      {
        // The thread in which jobs are called: the text of a script of its own.
        name: 'text',
        setup(build) {
          build.onResolve({ filter: /\?text$/ }, ({ path, resolveDir }) => ({
            path: resolve(resolveDir, path.slice(0, -'?text'.length)),
            namespace: 'text',
          }))
          build.onLoad({ filter: /^/, namespace: 'text' }, ({ path }) => ({ contents: scriptOf(path), loader: 'text' }))
        },
      },
      {
        // Bundlers take it into functions that are ES modules, where there is no `require`.
        name: 'built-in modules',
        setup(build) {
          build.onResolve({ filter: /^[a-z_:/]+$/ }, ({ path }) =>
            isBuiltin(path) ? { path: path.replace(/^(node:)?/, 'node:'), namespace: 'built-in' } : undefined,
          )
          build.onLoad({ filter: /^/, namespace: 'built-in' }, ({ path }) => ({
            contents: `
              module.exports = process.getBuiltinModule('${path}')
              if (!module.exports) throw Object.assign(new Error('No ${path}'), { code: 'ERR_UNKNOWN_BUILTIN_MODULE' })`,
          }))
        },
      },
    ],
    footer: { js: licences(['undici']) },
    ...inLayer,
  },
])
