// Packs dist/layer (the companion script and the worker that it starts) into dist/layer.zip, byte for byte the same
// for the same input: fixed times, fixed order, run bits kept.
import { chmodSync, copyFileSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { zipSync } from 'fflate'

const UNIX = 3 // the "made by" system under which a ZIP entry's attributes carry a Unix mode
const FIXED_TIME = new Date(1980, 0, 1) // the earliest a ZIP can say

const root = fileURLToPath(new URL('..', import.meta.url))
const layer = join(root, 'dist', 'layer')

mkdirSync(join(layer, 'extensions'), { recursive: true })
const companion = join(layer, 'extensions', 'post-invoke')
copyFileSync(join(root, 'src', 'extension', 'post-invoke.sh'), companion)
chmodSync(companion, 0o755)

const entries = {}
for (const name of readdirSync(layer, { recursive: true }).sort()) {
  const path = join(layer, name)
  const { mode } = statSync(path)
  const isDirectory = statSync(path).isDirectory()
  const permissions = isDirectory || mode & 0o100 ? 0o755 : 0o644
  const type = isDirectory ? 0o040000 : 0o100000
  entries[isDirectory ? `${name}/` : name] = [
    isDirectory ? new Uint8Array() : readFileSync(path),
    { os: UNIX, attrs: (((type | permissions) << 16) | (isDirectory ? 0x10 : 0)) >>> 0, mtime: FIXED_TIME, level: 9 },
  ]
}
writeFileSync(join(root, 'dist', 'layer.zip'), zipSync(entries))
