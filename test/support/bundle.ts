// Bundles a handler as users do.
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

export type BundleOptions = {
  tool: 'esbuild' | 'tsup'
  format: 'esm' | 'cjs'
  minify: boolean
  /** The bundler is told that the function always has the layer. */
  forLayer?: boolean
}

export const everyBundle: readonly BundleOptions[] = (['esbuild', 'tsup'] as const).flatMap(tool =>
  (['esm', 'cjs'] as const).flatMap(format => [false, true].map(minify => ({ tool, format, minify }))),
)

export const nameOf = ({ tool, format, minify }: BundleOptions) =>
  `${tool}, ${format === 'esm' ? 'ESM' : 'CJS'}${minify ? ', minified' : ''}`

/** @returns a folder with the bundle and nothing else, as on Lambda; the handler is in `index`. */
export const bundle = async (entry: string, options: BundleOptions): Promise<Disposable & Bundle> => {
  const { tool, format, minify, forLayer } = options
  const folder = mkdtempSync(join(tmpdir(), 'post-invoke-bundle-'))
  const file = join(folder, `index.${format === 'esm' ? 'mjs' : 'js'}`)
  const args =
    tool === 'esbuild'
      ? [entry, '--bundle', '--platform=node', '--target=node22', `--format=${format}`, `--outfile=${file}`]
      : ['--entry.index', entry, '--target=node22', `--format=${format}`, `--out-dir=${folder}`]
  if (minify) args.push('--minify')
  const define =
    tool === 'esbuild' ? '--define:process.env.POST_INVOKE_COMPANION="layer"' : '--env.POST_INVOKE_COMPANION=layer'
  if (forLayer) args.push(define)
  // tsup leaves out what the package.json of its folder names as dependencies. Here there is none.
  await promisify(execFile)(bin(tool), args, { cwd: folder })
  return { folder, file, [Symbol.dispose]: () => rmSync(folder, { recursive: true }) }
}

export type Bundle = { readonly folder: string; readonly file: string }

const bin = (name: string) => fileURLToPath(new URL(`../../node_modules/.bin/${name}`, import.meta.url))
