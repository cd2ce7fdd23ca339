// What bundling adds to a function, what the layer weighs, and how many lines there are to read.
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { build, type Plugin } from 'esbuild'
import { childText } from '../scripts/companion-text.ts'
import { internalNames } from '../scripts/internal-names.ts'
import { digits, type Section, type Target } from './page.ts'

const root = fileURLToPath(new URL('..', import.meta.url))

/** The bundler is told that the function always has the layer. */
const FOR_LAYER = '… bundled for the layer alone'

/** Each is one function's bundle: the least that uses what it is named for. */
const FUNCTIONS = {
  'plain Middy': middy('', '', 'return 1'),
  'postInvoke() and context.defer': middy(
    "import postInvoke from 'middy-post-invoke'",
    '.use(postInvoke())',
    'context.defer(() => {})',
  ),
  [FOR_LAYER]: middy("import postInvoke from 'middy-post-invoke'", '.use(postInvoke())', 'context.defer(() => {})'),
  '… with defer, onShutdown and resource': middy(
    `import postInvoke, { defer, onShutdown, resource } from 'middy-post-invoke'
     const get = resource(() => ({}))
     onShutdown(() => {})`,
    '.use(postInvoke())',
    'defer(() => get())',
  ),
  '. and ./handler': `${middy(
    `import postInvoke from 'middy-post-invoke'
     import { withPostInvoke } from 'middy-post-invoke/handler'`,
    '.use(postInvoke())',
    'context.defer(() => {})',
  )}
  export const other = withPostInvoke(async (event, context) => context.defer(() => {}))`,
  'with ./hand-off, where the layer runs the work': handsOff(''),
  '… where the function does': handsOff("import 'middy-post-invoke/hand-off/embedded'"),
} as const

function middy(imports: string, uses: string, body: string): string {
  return `import middy from '@middy/core'
    ${imports}
    export const handler = middy()${uses}.handler(async (event, context) => { ${body} })`
}

function handsOff(imports: string): string {
  return middy(
    `import postInvoke from 'middy-post-invoke'
     import withHandOff from 'middy-post-invoke/hand-off'
     ${imports}`,
    '.use(postInvoke()).use(withHandOff())',
    "context.handOff('job')",
  )
}

/** What a function can import. */
const ENTRIES = ['', '/handler', '/metrics', '/hand-off', '/hand-off/embedded', '/preload', '/job-handler']

const LIMITS: readonly (readonly [keyof typeof FUNCTIONS, 'minified' | 'gzip', number])[] = [
  ['postInvoke() and context.defer', 'minified', 21],
  ['postInvoke() and context.defer', 'gzip', 9],
  ['… with defer, onShutdown and resource', 'minified', 23.5],
  ['. and ./handler', 'minified', 22],
  ['with ./hand-off, where the layer runs the work', 'minified', 32],
]

const LINES = 2_000
const LAYER_KB = 261

export const measureSize = async (): Promise<Section> => {
  const functions = await sizesOf(Object.entries(FUNCTIONS))
  const entries = await sizesOf(
    ENTRIES.map(name => [`middy-post-invoke${name}`, `export * from 'middy-post-invoke${name}'; ${defaultOf(name)}`]),
  )
  const plain = functions.get('plain Middy') as Size
  const added = (name: string): Size => {
    const { minified, gzip } = functions.get(name) as Size
    return { minified: minified - plain.minified, gzip: gzip - plain.gzip }
  }
  const sources = await bytesBySource()
  const largest = sources.slice(0, 3).map(({ path, bytes }) => `${path} ${digits(bytes / 1000)}`)
  const targets = LIMITS.map(([name, what, limit]): Target => {
    const figure = name.startsWith('…') ? `postInvoke() ${name.slice(2)}` : name
    return {
      figure: `added to a bundle, ${what}: ${figure}`,
      limit,
      unit: 'kB',
      measured: added(name)[what],
      ifMissed: `plain Middy itself has ${digits(plain[what])} kB; the largest files, minified: ${largest.join(', ')} kB`,
    }
  })
  const layer = statSync(join(root, 'dist/layer.zip')).size
  const runner = gzipSync(readFileSync(join(root, 'dist/layer/post-invoke/runner.cjs')), { level: 9 }).length
  const lines = countLines(sources.map(({ path }) => path))
  targets.push(
    {
      figure: 'layer.zip',
      limit: LAYER_KB,
      unit: 'kB',
      measured: layer / 1000,
      ifMissed: `${layer.toLocaleString('en')} bytes; what runs handed-off work, with undici in it, has ${digits(runner / 1000)} kB of them`,
    },
    {
      figure: 'src/middleware with what it bundles',
      limit: LINES,
      unit: 'lines',
      measured: lines.bundled,
      ifMissed: `src/middleware itself has ${lines.middleware.toLocaleString('en')}`,
    },
  )
  return {
    title: 'Size',
    text: 'Small handlers bundled and minified with esbuild, and what they have more than one with Middy alone; each entry by itself, with all that it exports; and where the bytes of the main entry come from. kB are 1,000 bytes.',
    tables: [
      {
        columns: ['Bundle', 'minified, kB', 'and gzip, kB', 'added, minified', 'added, gzip'],
        rows: [...functions].map(([name, { minified, gzip }]) => [
          name,
          digits(minified),
          digits(gzip),
          digits(added(name).minified),
          digits(added(name).gzip),
        ]),
      },
      {
        columns: ['Entry', 'minified, kB', 'and gzip, kB'],
        rows: [...entries].map(([name, { minified, gzip }]) => [name, digits(minified), digits(gzip)]),
      },
      {
        columns: ['Source file in the main entry', 'bytes, minified'],
        rows: sources.map(({ path, bytes }) => [path, bytes.toLocaleString('en')]),
      },
      {
        columns: ['Lines', ''],
        rows: [
          ['src/middleware', lines.middleware.toLocaleString('en')],
          ['… with what it bundles, the companion apart', lines.bundled.toLocaleString('en')],
          ['src/extension', lines.extension.toLocaleString('en')],
        ],
      },
      { columns: ['Layer', 'bytes'], rows: [['layer.zip', layer.toLocaleString('en')]] },
    ],
    targets,
  }
}

type Size = { readonly minified: number; readonly gzip: number }

const options = { bundle: true, minify: true, format: 'esm', platform: 'node', target: 'node22', write: false } as const

const defaultOf = (name: string) =>
  name === '' || name === '/hand-off' ? `export { default } from 'middy-post-invoke${name}'` : ''

const sizesOf = async (bundles: Iterable<readonly [string, string]>): Promise<Map<string, Size>> => {
  const sizes = new Map<string, Size>()
  for (const [name, contents] of bundles) {
    const { outputFiles } = await build({
      ...options,
      stdin: { contents, resolveDir: join(root, 'bench') },
      define: name === FOR_LAYER ? { 'process.env.POST_INVOKE_COMPANION': '"layer"' } : {},
      logLevel: 'error',
    })
    const code = outputFiles[0]?.contents ?? new Uint8Array()
    sizes.set(name, { minified: code.length / 1000, gzip: gzipSync(code, { level: 9 }).length / 1000 })
  }
  return sizes
}

/** As the build does it. */
const companion: Plugin = {
  name: 'post-invoke.sh',
  setup({ onLoad }) {
    onLoad({ filter: /\/post-invoke\.sh$/ }, ({ path }) => ({
      contents: childText(readFileSync(path, 'utf8')),
      loader: 'text',
    }))
  },
}

const bytesBySource = async (): Promise<{ path: string; bytes: number }[]> => {
  const { metafile } = await build({
    ...options,
    entryPoints: [join(root, 'src/index.ts')],
    absWorkingDir: root,
    plugins: [companion],
    ...internalNames,
    metafile: true,
  })
  return Object.values(metafile.outputs)
    .flatMap(({ inputs }) => Object.entries(inputs).map(([path, { bytesInOutput: bytes }]) => ({ path, bytes })))
    .filter(({ bytes }) => bytes > 0)
    .sort((one, other) => other.bytes - one.bytes)
}

const countLines = (bundled: readonly string[]) => {
  const linesOf = (paths: readonly string[]) =>
    paths.reduce((sum, path) => sum + readFileSync(join(root, path), 'utf8').trimEnd().split('\n').length, 0)
  const filesIn = (folder: string) => readdirSync(join(root, folder)).map(name => `${folder}/${name}`)
  const middleware = filesIn('src/middleware')
  const carried = bundled.filter(path => path.endsWith('.ts'))
  return {
    middleware: linesOf(middleware),
    bundled: linesOf([...new Set([...middleware, ...carried])]),
    extension: linesOf(filesIn('src/extension')),
  }
}
