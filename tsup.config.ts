import { readFileSync } from 'node:fs'
import { defineConfig } from 'tsup'

/** The function's process needs the registration alone. Comments and the layer's part would stand in every user's bundle. */
const registration = (script: string) =>
  script
    .slice(0, script.indexOf('\nname='))
    .replace(/^ *#.*\n/gm, '')
    .replace(/^ +/gm, '')

// Types come from `tsc -p tsconfig.build.json`; the layer is packed by scripts/build-layer.js.
export default defineConfig([
  {
    entry: {
      index: 'src/index.ts',
      preload: 'src/preload.ts',
      'sandbox/index': 'src/sandbox/index.ts',
      'sandbox/runtime-client': 'src/sandbox/runtime-client.ts',
    },
    format: 'esm',
    target: 'node22',
    esbuildPlugins: [
      {
        name: 'register.sh',
        setup(build) {
          build.onLoad({ filter: /register\.sh$/ }, ({ path }) => ({
            contents: registration(readFileSync(path, 'utf8')),
            loader: 'text',
          }))
        },
      },
    ],
    dts: false,
    splitting: false,
    sourcemap: false,
  },
  {
    // The layer's companion: one CommonJS file, which Node starts faster than ESM.
    entry: { companion: 'src/extension/layer.ts' },
    outDir: 'dist/layer/post-invoke',
    format: 'cjs',
    target: 'node22',
    outExtension: () => ({ js: '.cjs' }),
    minify: true,
    dts: false,
    splitting: false,
    sourcemap: false,
  },
])
