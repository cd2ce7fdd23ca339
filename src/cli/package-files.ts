// Where the files of this package lie beside the command line: dist/, built.
import { relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const inDist = (path: string) => fileURLToPath(new URL(path, import.meta.url))

export const layerFolder = inDist('./layer')
export const layerZip = inDist('./layer.zip')

/** As a person in the current folder would write it. */
export const fromHere = (path: string): string => {
  const here = relative(process.cwd(), path)
  return here === '' ? '.' : here.startsWith('..') && here.length > path.length ? path : here
}
