// `post-invoke layer`: writes the layer as a zip or a folder, and says how to publish and attach it.
import { createHash } from 'node:crypto'
import { copyFileSync, cpSync, existsSync, readFileSync, statSync } from 'node:fs'
import { extname } from 'node:path'
import { type Command, Option } from 'commander'
import { version } from '../version.ts'
import { attachments, type Tool, tools } from './attach.ts'
import { UsageError } from './errors.ts'
import { prepareFile } from './out-file.ts'
import { fromHere, layerFolder, layerZip } from './package-files.ts'
import { shell } from './quote.ts'
import { styled } from './terminal.ts'

type LayerOptions = { readonly out: string; readonly for?: Tool; readonly json?: boolean }

export const addLayerCommand = (program: Command, _finish: (code: number) => void) => {
  program
    .command('layer')
    .summary('write the layer, and print how to publish and attach it')
    .description('Writes the layer as a zip file or a folder, and prints how to publish and attach it.')
    .option('-o, --out <path>', 'where to write it: a file that ends in .zip, or a folder', DEFAULT_ZIP)
    .addOption(new Option('--for <tool>', 'print only what this tool needs').choices(tools))
    .option('--json', 'print JSON')
    .addHelpText('after', EXAMPLES)
    .action(layer)
}

const DEFAULT_ZIP = 'post-invoke-layer.zip'
const DEFAULT_FOLDER = 'post-invoke-layer'

const EXAMPLES = `
Examples:
  npx middy-post-invoke layer                     writes post-invoke-layer.zip
  npx middy-post-invoke layer --out layer         writes a folder that goes to /opt
  npx middy-post-invoke layer --for terraform`

const layer = ({ out, for: tool, json = false }: LayerOptions) => {
  const kind = extname(out).toLowerCase() === '.zip' ? 'zip' : 'folder'
  write(out, kind)
  // Never the package's own: npx has it in a cache, which is gone some day.
  const paths = { zip: kind === 'zip' ? out : DEFAULT_ZIP, folder: kind === 'folder' ? out : DEFAULT_FOLDER }
  const chosen = attachments({ zip: fromHere(paths.zip), folder: fromHere(paths.folder) }).filter(
    ({ name }) => tool === undefined || name === tool,
  )
  if (json) {
    const sha256 = createHash('sha256').update(readFileSync(layerZip)).digest('hex')
    const snippets = Object.fromEntries(chosen.map(({ name, text }) => [name, text]))
    console.log(JSON.stringify({ version, kind, path: out, ...(kind === 'zip' ? { sha256 } : {}), snippets }, null, 2))
    return
  }
  console.log(`${out}: the layer of middy-post-invoke ${version}, for x86_64 and arm64, written as a ${kind}`)
  for (const { title, text } of chosen)
    console.log(`\n${styled('bold', `# ${title}`)}\n${noteOn(text, paths)}\n${text}`)
}

/** How to make what a snippet names, where it is not there. */
const noteOn = (text: string, { zip, folder }: { readonly zip: string; readonly folder: string }): string =>
  [
    { path: zip, named: fromHere(zip) },
    { path: folder, named: `${fromHere(folder).replace(/\/$/, '')}/` },
  ]
    .filter(({ path, named }) => text.includes(named) && !existsSync(path))
    .map(
      ({ path }) =>
        `${styled('gray', `# npx middy-post-invoke layer --out ${shell(path)} writes the layer for this.`)}\n`,
    )
    .join('')

const write = (out: string, kind: 'zip' | 'folder') => {
  const there = statSync(out, { throwIfNoEntry: false })
  if (kind === 'zip') {
    prepareFile('--out', out)
    copyFileSync(layerZip, out)
    return
  }
  if (there && !there.isDirectory())
    throw new UsageError(
      `Expected --out to be a folder, or a file that ends in .zip; ${out} is a file without that ending.`,
    )
  // Nothing is removed: /opt, in a container image, has other layers' files too.
  cpSync(layerFolder, out, { recursive: true })
}
