// Where the files of this package lie beside the command line: dist/, built.
import { existsSync, readFileSync } from 'node:fs'
import { relative } from 'node:path'
import { fileURLToPath } from 'node:url'

export const inDist = (path: string) => fileURLToPath(new URL(path, import.meta.url))

export const layerFolder = inDist('./layer')
export const layerZip = inDist('./layer.zip')

/** This package's package.json, seen from dist/, or from src/ in tests. */
export const manifest: { readonly engines: { readonly node: string } } = JSON.parse(
  readFileSync(['../package.json', '../../package.json'].map(inDist).find(existsSync) ?? '', 'utf8'),
)

/** As a person in the current folder would write it. */
export const fromHere = (path: string): string => {
  const here = relative(process.cwd(), path)
  return here === '' ? '.' : here.startsWith('..') && here.length > path.length ? path : here
}
