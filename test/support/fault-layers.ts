// Copies of the layer and of the package with something wrong in them.
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Given, otherLayer } from './fault-observe.ts'
import { layer } from './run.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

export const makeFolder = (cleanUp: AsyncDisposableStack): string => {
  const folder = mkdtempSync(join(tmpdir(), 'post-invoke-faults-'))
  cleanUp.defer(async () => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/**
 * A layer whose extension first runs a few lines of bash, then becomes the real one, or for a control somebody else's.
 *
 * @returns its folder.
 */
export const makeLayer = ({ cleanUp, isControl }: Given, script: string): string => {
  const name = isControl ? 'bash-extension' : 'post-invoke'
  const real = join(isControl ? otherLayer : layer, 'extensions', name)
  return makeExtension(cleanUp, name, `${script}\nexec ${real}\n`)
}

/** A layer of one extension, a bash script. */
export const makeExtension = (cleanUp: AsyncDisposableStack, name: string, script: string): string => {
  const folder = makeFolder(cleanUp)
  mkdirSync(join(folder, 'extensions'))
  const file = join(folder, 'extensions', name)
  writeFileSync(file, `#!/bin/bash -p\n${script}`)
  chmodSync(file, 0o755)
  return folder
}

type Edit = (text: string) => string

/** Fails where there was nothing to replace: the row would show an unharmed copy. */
export const replaced =
  (pattern: RegExp, replacement: string): Edit =>
  text => {
    const edited = text.replace(pattern, replacement)
    if (edited === text) throw new Error(`nothing in the copy matches ${pattern}`)
    return edited
  }

/** A copy of a layer, by default ours, with one of its files edited. */
export const copyLayer = (
  cleanUp: AsyncDisposableStack,
  edit?: Edit,
  { original = layer, file = 'extensions/post-invoke' }: { original?: string; file?: string } = {},
): string => {
  const folder = makeFolder(cleanUp)
  cpSync(original, folder, { recursive: true })
  const path = join(folder, file)
  if (edit) writeFileSync(path, edit(readFileSync(path, 'utf8')))
  return folder
}

/** A copy of the package's module. @returns its path. */
export const copyPackage = (cleanUp: AsyncDisposableStack, edit: Edit): string => {
  const folder = makeFolder(cleanUp)
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'))
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}')
  const file = join(folder, 'index.js')
  writeFileSync(file, edit(readFileSync(join(root, 'dist', 'index.js'), 'utf8')))
  return file
}
