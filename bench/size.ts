// What bundling adds to a function, and what the layer weighs.
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { digits, type Section } from './page.ts'

export const measureSize = (folder: string): Section => {
  const sizes = (name: string) => {
    const code = readFileSync(join(folder, `${name}.mjs`))
    return { minified: code.length / 1000, gzip: gzipSync(code, { level: 9 }).length / 1000 }
  }
  const plain = sizes('plain')
  const deferred = sizes('deferred')
  const layer = statSync(fileURLToPath(new URL('../dist/layer.zip', import.meta.url))).size / 1000
  const row = (name: string, { minified, gzip }: { minified: number; gzip: number }) => [
    name,
    digits(minified),
    digits(gzip),
  ]
  const added = { minified: deferred.minified - plain.minified, gzip: deferred.gzip - plain.gzip }
  return {
    title: 'Size',
    text: 'A small handler bundled with esbuild, once with Middy alone and once with this middleware. kB are 1,000 bytes.',
    tables: [
      {
        columns: ['Bundle', 'minified, kB', 'and gzip, kB'],
        rows: [row('plain Middy', plain), row('with the middleware', deferred), row('added', added)],
      },
      { columns: ['Layer', 'kB'], rows: [['layer.zip', digits(layer)]] },
    ],
    targets: [
      {
        figure: 'bundle, minified: added',
        limit: 12,
        unit: 'kB',
        measured: added.minified,
        ifMissed: `${digits(added.gzip)} kB after gzip; a bundler cannot know which companion, which runtime client and which of the errors a function will meet`,
      },
      { figure: 'layer.zip, with undici in it', limit: 400, unit: 'kB', measured: layer, ifMissed: '' },
    ],
  }
}
