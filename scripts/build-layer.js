// Packs dist/layer (the companion script and the worker that it starts) into dist/layer.zip, byte for byte the same
// for the same input: fixed times, fixed order, run bits kept.
import { chmodSync, copyFileSync, createWriteStream, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { fileURLToPath } from 'node:url'
import { ZipFile } from 'yazl'

const FIXED_TIME = new Date(1980, 0, 1) // the earliest a ZIP can say

const root = fileURLToPath(new URL('..', import.meta.url))
const layer = join(root, 'dist', 'layer')

mkdirSync(join(layer, 'extensions'), { recursive: true })
const companion = join(layer, 'extensions', 'post-invoke')
copyFileSync(join(root, 'src', 'extension', 'post-invoke.sh'), companion)
chmodSync(companion, 0o755)

const zip = new ZipFile()
for (const name of readdirSync(layer, { recursive: true }).sort()) {
  const path = join(layer, name)
  const { mode } = statSync(path)
  const options = { mtime: FIXED_TIME, forceDosTimestamp: true }
  if (statSync(path).isDirectory()) zip.addEmptyDirectory(name, { ...options, mode: 0o040755 })
  else {
    zip.addBuffer(readFileSync(path), name, {
      ...options,
      compressionLevel: 9,
      mode: mode & 0o100 ? 0o100755 : 0o100644,
    })
  }
}
zip.end()
await pipeline(zip.outputStream, createWriteStream(join(root, 'dist', 'layer.zip')))
