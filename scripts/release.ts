// What a release needs beside the build. Where the project is stands in release.json alone, which its owner fills in.
//
//   node scripts/release.ts check [FOLDER]     ends with 1 and says why, where this is not ready to be released
//   node scripts/release.ts prepare [FOLDER]   writes into package.json where the project is, and makes links that lead
//                                              out of the package lead there
//   node scripts/release.ts notes [FOLDER]     prints what CHANGELOG.md says of this version
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'

const [command, root = fileURLToPath(new URL('..', import.meta.url))] = process.argv.slice(2)

const main = () => {
  if (command === 'check') check()
  else if (command === 'prepare') prepare()
  else if (command === 'notes') console.log(notes())
  else fail(['Expected check, prepare or notes.'])
}

const check = () => {
  const { version } = manifest()
  const { repository, contact } = owner()
  const tag = process.env.GITHUB_REF_NAME
  const here = process.env.GITHUB_REPOSITORY
  fail([
    ...(REPOSITORY.test(repository)
      ? []
      : [
          `Expected "repository" in release.json to be https://github.com/OWNER/NAME, got ${JSON.stringify(repository)}. Fill it in.`,
        ]),
    ...(here === undefined || repository === '' || repository === `https://github.com/${here}`
      ? []
      : [`Expected "repository" in release.json to be this one, https://github.com/${here}, got ${repository}.`]),
    ...(/^\S+@\S+\.\S+$|^https:\/\/\S+$/.test(contact)
      ? []
      : [
          `Expected "contact" in release.json to be a mail address or a page, got ${JSON.stringify(contact)}. Fill it in.`,
        ]),
    ...(tag === undefined || tag === `v${version}` ? [] : [`Expected the tag v${version}, got ${tag}.`]),
    ...(heading()?.date === undefined
      ? [`Expected CHANGELOG.md to have a heading "## ${version} - YYYY-MM-DD" with a date that there is.`]
      : []),
  ])
}

/** The link that npm, and everything that reads package.json, has to the project. */
const prepare = () => {
  const { repository } = owner()
  if (!REPOSITORY.test(repository)) fail(['Expected "repository" in release.json. Fill it in.'])
  const { version, ...rest } = manifest()
  write('package.json', {
    ...rest,
    version,
    repository: { type: 'git', url: `git+${repository}.git` },
    bugs: { url: `${repository}/issues` },
    homepage: `${repository}#readme`,
  })
  const base = {
    page: `${repository}/blob/v${version}/`,
    image: `${repository.replace('github.com', 'raw.githubusercontent.com')}/v${version}/`,
  }
  const pages = [
    'README.md',
    'CHANGELOG.md',
    'llms.txt',
    ...readdirSync(join(root, 'docs'))
      .filter(name => name.endsWith('.md'))
      .map(name => join('docs', name)),
  ]
  for (const page of pages) {
    if (!existsSync(join(root, page))) continue
    const text = read(page)
    // npm shows README.md apart from the package's files. All other pages find each other in the package.
    const leads = (path: string) => page === 'README.md' || !isPacked(path)
    writeFileSync(join(root, page), absolute(text, dirname(page), base, leads))
  }
}

const isPacked = (path: string): boolean => {
  const isIn = (folder: string) => path === folder || path.startsWith(`${folder}/`)
  const files: readonly string[] = manifest().files
  const left = files.flatMap(name => (name.startsWith('!') ? name.slice(1) : []))
  return [...files, 'README.md', 'LICENSE', 'package.json'].some(isIn) && !left.some(isIn)
}

type Base = { readonly page: string; readonly image: string }

/** Links in the text, and in HTML; not those in code. */
const absolute = (text: string, folder: string, base: Base, leads: (path: string) => boolean): string =>
  text
    .split(/(^```.*?^```$)/ms)
    .map((part, index) => (index % 2 === 1 ? part : withBase(part, folder, base, leads)))
    .join('')

const withBase = (text: string, folder: string, base: Base, leads: (path: string) => boolean): string =>
  text.replaceAll(
    /(!?)(\[[^\]]*\]\()([^)\s]+)(?=\))|(<img [^>]*src=")([^"]+)/g,
    (whole, image: string, label: string, target: string, tag: string, source: string) => {
      const given = target ?? source
      if (/^([a-z]+:|#|\/\/)/i.test(given)) return whole
      const [path = '', anchor] = given.split('#')
      const from = normalize(join(folder, path)).replace(/\/$/, '')
      if (!leads(from)) return whole
      const isImage = image === '!' || tag !== undefined
      const url = `${isImage ? base.image : base.page}${from}${anchor === undefined ? '' : `#${anchor}`}`
      return `${image ?? ''}${label ?? tag}${url}`
    },
  )

const notes = (): string => {
  const found = heading()
  if (!found) return fail([`Expected CHANGELOG.md to have a heading for ${manifest().version}.`])
  return found.text
}

/** That of this version in CHANGELOG.md, and what stands below it. */
const heading = (): { readonly date: string | undefined; readonly text: string } | undefined => {
  const { version } = manifest()
  const [, ...sections] = read('CHANGELOG.md').split(/^## /m)
  const section = sections.find(text => text.split(/\s/, 1)[0] === version)
  if (section === undefined) return undefined
  const [first = '', ...lines] = section.split('\n')
  const [, date = ''] = / - (\d{4}-\d{2}-\d{2})$/.exec(first) ?? []
  return {
    date: Number.isNaN(Date.parse(date)) ? undefined : date,
    text: lines.join('\n').trim(),
  }
}

const REPOSITORY = /^https:\/\/github\.com\/[\w-]+\/[\w.-]+(?<!\.git)$/

const read = (path: string) => readFileSync(join(root, path), 'utf8')

const write = (path: string, value: unknown) => writeFileSync(join(root, path), `${JSON.stringify(value, null, 2)}\n`)

const manifest = (): { readonly version: string; readonly files: readonly string[] } => JSON.parse(read('package.json'))

const owner = (): { readonly repository: string; readonly contact: string } => {
  const { repository = '', contact = '' } = JSON.parse(read('release.json'))
  return { repository, contact }
}

const fail = (problems: readonly string[]): never | string => {
  if (problems.length === 0) return ''
  for (const problem of problems) console.error(problem)
  process.exit(1)
}

main()
