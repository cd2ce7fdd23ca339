// What keeps the project together: how it is released, its workflows, its forms, and its index for language models.
import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, normalize } from 'node:path'
import { describe, expect, it } from '@jest/globals'
import { parse } from 'yaml'
import { makeFolder, type Packed, pack, root, run, succeed } from './packed.ts'

const read = (path: string) => readFileSync(join(root, path), 'utf8')
const REPOSITORY = 'https://github.com/somebody/their.project'
const { version } = JSON.parse(read('package.json'))

/** A copy of what a release is made from, as its owner has it. */
const checkout = (owner: object = { repository: REPOSITORY, contact: 'owner@example.com' }) => {
  const folder = makeFolder()
  const { files } = JSON.parse(read('package.json'))
  for (const path of [
    'package.json',
    'README.md',
    'LICENSE',
    ...files.filter((name: string) => !name.startsWith('!')),
  ]) {
    cpSync(join(root, path), join(folder.path, path), { recursive: true })
  }
  writeFileSync(join(folder.path, 'release.json'), JSON.stringify(owner))
  const changelog = read('CHANGELOG.md').replace(/^## .*$/m, `## ${version} - 2026-12-24`)
  writeFileSync(join(folder.path, 'CHANGELOG.md'), changelog)
  return folder
}

const release = (command: string, folder: string, env: NodeJS.ProcessEnv = {}) => {
  const { GITHUB_REF_NAME: _, GITHUB_REPOSITORY: __, ...inherited } = process.env
  return run(process.execPath, [join(root, 'scripts/release.ts'), command, folder], { env: { ...inherited, ...env } })
}

describe('a release', () => {
  it('is made of what is filled in and dated', async () => {
    using folder = checkout()
    const env = { GITHUB_REF_NAME: `v${version}`, GITHUB_REPOSITORY: 'somebody/their.project' }
    expect(await release('check', folder.path, env)).toEqual({ code: 0, stdout: '', stderr: '' })
    const { stdout } = await release('notes', folder.path)
    expect(stdout).toMatch(/^### (Added|Changed|Fixed)\n/)
    expect(stdout).not.toContain('\n## ')
  })

  it.each([
    ['no repository', { contact: 'a@b.c' }, {}, '"repository" in release.json'],
    ['an empty repository', { repository: '', contact: 'a@b.c' }, {}, 'Fill it in.'],
    [
      'another kind of address',
      { repository: 'git@github.com:a/b.git', contact: 'a@b.c' },
      {},
      'https://github.com/OWNER/NAME',
    ],
    ['no contact', { repository: REPOSITORY }, {}, '"contact" in release.json'],
    [
      "somebody else's repository",
      undefined,
      { GITHUB_REPOSITORY: 'a/fork' },
      'to be this one, https://github.com/a/fork',
    ],
    ['another tag', undefined, { GITHUB_REF_NAME: 'v9.9.9' }, `Expected the tag v${version}, got v9.9.9.`],
  ])('is refused with %s', async (_, owner, env, message) => {
    using folder = checkout(owner)
    const { code, stderr } = await release('check', folder.path, env)
    expect([code, stderr]).toEqual([1, expect.stringContaining(message)])
  })

  it.each([[`## ${version}`], [`## ${version} - soon`], [`## ${version} - 2026-13-45`], ['## 9.9.9 - 2026-12-24']])(
    'is refused where the changelog has %s',
    async heading => {
      using folder = checkout()
      writeFileSync(join(folder.path, 'CHANGELOG.md'), `# Changelog\n\n${heading}\n\n- x\n`)
      const { code, stderr } = await release('check', folder.path)
      expect([code, stderr]).toEqual([1, expect.stringContaining(`"## ${version} - YYYY-MM-DD"`)])
    },
  )

  it('is refused by what lies here, which nobody has filled in', async () => {
    using folder = checkout(JSON.parse(read('release.json')))
    expect((await release('check', folder.path)).code).toBe(1)
    expect((await release('prepare', folder.path)).code).toBe(1)
  })

  it('says in package.json where the project is', async () => {
    using folder = checkout()
    expect(await release('prepare', folder.path)).toEqual({ code: 0, stdout: '', stderr: '' })
    const before = JSON.parse(read('package.json'))
    const after = JSON.parse(readFileSync(join(folder.path, 'package.json'), 'utf8'))
    expect(after).toEqual({
      ...before,
      repository: { type: 'git', url: `git+${REPOSITORY}.git` },
      bugs: { url: `${REPOSITORY}/issues` },
      homepage: `${REPOSITORY}#readme`,
    })
    expect(before).not.toHaveProperty('repository')
  })

  it("has a README whose links lead somewhere on npm's page, and pages that find each other in the package", async () => {
    using folder = checkout()
    await release('prepare', folder.path)
    const [{ files }] = (await pack(folder.path, [folder.path])) as [Packed]
    const packed = new Set(files.map(({ path }) => path))
    const blob = `${REPOSITORY}/blob/v${version}/`
    const raw = `https://raw.githubusercontent.com/somebody/their.project/v${version}/`
    const pages = [...packed].filter(path => /^(README\.md|llms\.txt|docs\/.*\.md)$/.test(path))
    expect(pages.length).toBeGreaterThan(10)
    let absolute = 0
    for (const page of pages) {
      for (const { target, isImage } of linksOf(readFileSync(join(folder.path, page), 'utf8'))) {
        if (target.startsWith('#')) continue
        const base = [blob, raw].find(base => target.startsWith(base))
        if (base !== undefined) {
          absolute += 1
          expect({ page, target, base }).toEqual({ page, target, base: isImage ? raw : blob })
          expect({ target, exists: existsSync(join(root, target.slice(base.length).replace(/#.*/, ''))) }).toEqual({
            target,
            exists: true,
          })
        } else if (!/^[a-z]+:/.test(target)) {
          expect({ page, target, isReadme: page === 'README.md' }).toEqual({ page, target, isReadme: false })
          const path = normalize(join(page, '..', target.replace(/#.*/, '')))
          expect({ page, path, isPacked: packed.has(path) }).toEqual({ page, path, isPacked: true })
        }
      }
    }
    expect(absolute).toBeGreaterThan(20)
  })

  it('leaves code as it is', async () => {
    using folder = checkout()
    const codeOf = (text: string) => text.match(/^```.*?^```$/gms) ?? []
    const before = codeOf(read('README.md'))
    await release('prepare', folder.path)
    expect(before.length).toBeGreaterThan(5)
    expect(codeOf(readFileSync(join(folder.path, 'README.md'), 'utf8'))).toEqual(before)
  })
})

const linksOf = (text: string) =>
  [...text.replaceAll(/^```.*?^```$|`[^`\n]+`/gms, '').matchAll(/(!?)\[[^\]]*\]\(([^)\s]+)\)/g)].map(
    ([, image, target = '']) => ({ target, isImage: image === '!' }),
  )

describe('.github/workflows', () => {
  const names = readdirSync(join(root, '.github/workflows'))
  const workflow = (name: string) => parse(read(`.github/workflows/${name}`))
  const steps = names.flatMap(name =>
    Object.values<any>(workflow(name).jobs).flatMap(job => job.steps.map((step: any) => ({ name, step }))),
  )

  it('name every action by its commit, with its version beside it', () => {
    const lines = names.flatMap(name => read(`.github/workflows/${name}`).match(/uses: .*/g) ?? [])
    expect(lines.length).toBeGreaterThan(10)
    for (const line of lines) expect(line).toMatch(/^uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/)
    // One commit an action, wherever it is used; those of one repository are released together.
    const commits = new Map<string, Set<string>>()
    for (const line of lines) {
      const [, repository = '', commit = ''] = /^uses: ([\w-]+\/[\w-]+)[\w./-]*@(.*)$/.exec(line) ?? []
      commits.set(repository, (commits.get(repository) ?? new Set()).add(commit))
    }
    expect([...commits].filter(([, used]) => used.size > 1)).toEqual([])
  })

  it('may do nothing that a job does not say', () => {
    for (const name of names) {
      const { permissions, jobs } = workflow(name)
      expect([name, permissions]).toEqual([name, {}])
      for (const job of Object.values<any>(jobs)) {
        expect(job).toMatchObject({
          permissions: { contents: expect.any(String) },
          'timeout-minutes': expect.any(Number),
        })
      }
    }
  })

  it('write to the repository only to make a release, and get a token only where it is used', () => {
    const jobs = names.flatMap(name =>
      Object.entries<any>(workflow(name).jobs).map(([job, value]) => [`${name} ${job}`, value] as const),
    )
    const withPermission = (permission: string) =>
      jobs
        .filter(([, { permissions }]) => permissions[permission] === 'write')
        .map(([job]) => job)
        .sort()
    expect(withPermission('contents')).toEqual(['release.yml announce'])
    expect(withPermission('id-token')).toEqual([
      'publish-layer.yml publish',
      'release.yml attest',
      'release.yml publish',
      'scorecard.yml analysis',
    ])
    expect(
      steps
        .filter(({ step }) => /actions\/checkout/.test(step.uses ?? ''))
        .every(({ step }) => step.with['persist-credentials'] === false),
    ).toBe(true)
  })

  it('go through the mutants of each file that scripts/mutation.ts has', () => {
    const files = read('scripts/mutation.ts').matchAll(/^ {2}'src\/.*\/([\w-]+)\.ts': \[/gm)
    const { matrix } = workflow('nightly.yml').jobs.mutation.strategy
    expect(matrix.file).toEqual(Array.from(files, ([, name]) => name))
  })

  it('publish only what has been checked, and only from a tag', () => {
    const { on, jobs } = workflow('release.yml')
    expect(on).toEqual({ push: { tags: ['v*'] } })
    const runs = jobs.build.steps.map(({ run = '' }: { run?: string }) => run)
    const order = ['node scripts/release.ts check', 'npm test', 'node scripts/release.ts prepare', 'npm pack']
    const found = order.map(part => runs.findIndex((line: string) => line.includes(part)))
    expect(found).toEqual(found.toSorted((one, other) => one - other))
    expect(found[0]).toBeGreaterThanOrEqual(0)
    expect(['attest', 'publish', 'announce'].map(name => jobs[name].needs)).toEqual(['build', 'attest', 'publish'])
    expect(steps.filter(({ step }) => /npm publish/.test(step.run ?? '')).map(({ name }) => name)).toEqual([
      'release.yml',
    ])
    expect(JSON.stringify(jobs)).not.toContain('secrets.')
  })
})

describe('.github/ISSUE_TEMPLATE', () => {
  const forms = readdirSync(join(root, '.github/ISSUE_TEMPLATE')).filter(name => name !== 'config.yml')

  it.each(forms)('%s is a form', name => {
    const { name: title, description, body } = parse(read(`.github/ISSUE_TEMPLATE/${name}`))
    expect([title, description]).toEqual([expect.any(String), expect.any(String)])
    const ids = body.flatMap(({ id }: { id?: string }) => id ?? [])
    expect(new Set(ids).size).toBe(ids.length)
    for (const { type, id, attributes } of body) {
      expect(['markdown', 'textarea', 'input', 'dropdown', 'checkboxes']).toContain(type)
      if (type === 'markdown') expect(attributes).toEqual({ value: expect.any(String) })
      else expect([id, attributes.label]).toEqual([expect.stringMatching(/^[\w-]+$/), expect.any(String)])
      if (type === 'dropdown')
        expect(attributes.options.every((option: unknown) => typeof option === 'string')).toBe(true)
    }
    expect(body.some(({ validations }: any) => validations?.required)).toBe(true)
  })
})

describe('llms.txt', () => {
  const text = read('llms.txt')

  it('has a title, a summary and sections, and links to what is there', () => {
    expect(text).toMatch(/^# middy-post-invoke\n\n> .+\n\n/)
    const links = linksOf(text).map(({ target }) => target)
    expect(links.filter(link => !existsSync(join(root, link)))).toEqual([])
  })

  it('names every page of the documentation', () => {
    const pages = readdirSync(join(root, 'docs')).filter(name => name.endsWith('.md'))
    expect(pages.filter(page => !text.includes(`(docs/${page})`))).toEqual([])
  })
})

it('npm lists what the package is made of', async () => {
  const { components, bomFormat } = JSON.parse(
    await succeed('npm', ['sbom', '--omit', 'dev', '--sbom-format', 'cyclonedx', '--package-lock-only'], { cwd: root }),
  )
  expect(bomFormat).toBe('CycloneDX')
  expect(components.map(({ name }: { name: string }) => name)).toContain('@types/aws-lambda')
})
