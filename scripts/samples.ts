// Puts the samples of the documentation where their markers are: after `<!-- examples/file.ts -->` the file, after
// `<!-- examples/file.ts#name -->` what stands there between `// #region name` and `// #endregion`.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const pages = ['README.md', ...readdirSync(join(root, 'docs')).map(name => join('docs', name))]

const sampleOf = (marker: string): string => {
  const [path = '', region] = marker.split('#')
  const text = readFileSync(join(root, path), 'utf8')
  if (region === undefined) return text
  const [, indent = '', code] = new RegExp(`^( *)// #region ${region}\n(.*?)^ *// #endregion$`, 'ms').exec(text) ?? []
  if (code === undefined) throw new Error(`Expected ${path} to have a region ${region}`)
  return code.replaceAll(new RegExp(`^${indent}`, 'gm'), '')
}

for (const page of pages.filter(name => name.endsWith('.md'))) {
  const text = readFileSync(join(root, page), 'utf8')
  const filled = text.replaceAll(
    /^<!-- (examples\/\S+) -->\n```(\w+)\n.*?^```$/gms,
    (_, marker: string, language: string) => `<!-- ${marker} -->\n\`\`\`${language}\n${sampleOf(marker)}\`\`\``,
  )
  if (filled !== text) writeFileSync(join(root, page), filled)
}
