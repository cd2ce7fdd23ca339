// docs/evidence/compatibility.md names the versions and the combinations that the suites really run.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from '@jest/globals'

const root = fileURLToPath(new URL('../..', import.meta.url))
const read = (path: string) => readFileSync(join(root, path), 'utf8')
const page = read('docs/evidence/compatibility.md')
const manifest = JSON.parse(read('package.json'))

describe('docs/evidence/compatibility.md', () => {
  it('names the versions that are installed for the tests', () => {
    const versions = Array.from(
      read('scripts/install-test-runtimes.sh').matchAll(
        /^(?:NODE|NODE26|RIC3|RIC4|MIDDY|MIDDY6|TYPESCRIPT|AWS_SAM_CLI)_VERSION=(\S+)/gm,
      ),
      ([, version = '']) => version,
    )
    expect(versions).toHaveLength(8)
    versions.push(JSON.parse(read('node_modules/@middy/core/package.json')).version)
    expect(versions.filter(version => !page.includes(version))).toEqual([])
  })

  it('names the versions that package.json asks for', () => {
    const node = manifest.engines.node.replace('>=', '')
    const middy = manifest.peerDependencies['@middy/core'].replace('^', '')
    expect(page).toContain(`| from ${node} on |`)
    expect(page).toContain(`\`@middy/core\` from ${middy} on`)
    const matrix = /node: \[(.+)\]/.exec(read('.github/workflows/ci.yml'))?.[1]?.split(', ') ?? []
    expect(matrix.filter(version => !page.includes(`| Node.js ${version} |`))).toEqual([])
    expect(matrix).not.toEqual([])
  })

  it('names the combinations that each suite runs', () => {
    const rows = page.split('\n').flatMap(line => {
      const [what, ric3, ric4, suites] = line.slice(2, -2).split(' | ')
      return what && ric3 && ric4 && suites?.startsWith('[') ? [{ what, ric3, ric4, suites }] : []
    })
    expect(rows.length).toBeGreaterThan(5)
    const run = rows.map(({ what, suites }) => {
      const combinations = Array.from(suites.matchAll(/\]\(\.\.\/\.\.\/(\S+)\)/g), ([, file = '']) =>
        combinationsIn(read(file)),
      )
      const of = (client: string) => {
        const companions = new Set(combinations.flatMap(found => found[client] ?? []))
        return [...companions].sort().join(', ')
      }
      return { what, ric3: of('ric3'), ric4: of('ric4'), suites }
    })
    expect(run).toEqual(rows)
  })

  it('names every suite that runs on a real runtime client', () => {
    const suites = ['runtime-clients', 'rie', 'durable', 'postgres'].flatMap(folder =>
      readdirSync(join(root, 'test', folder))
        .filter(name => name.endsWith('.test.ts'))
        .map(name => `test/${folder}/${name}`),
    )
    expect(suites.length).toBeGreaterThan(8)
    expect(suites.filter(suite => !page.includes(`(../../${suite})`))).toEqual([])
  })
})

/** By runtime client, the companions with which a suite runs it. */
function combinationsIn(source: string): Record<string, string[]> {
  const found: Record<string, string[]> = {}
  const add = (client: string, companions: readonly string[]) => {
    found[client] = [...(found[client] ?? []), ...companions]
  }
  const namesIn = (list: string) => Array.from(list.matchAll(/'(\w+)'/g), ([, name = '']) => name)

  // for (const companion of ['…'] as const) … realClient('ric…'), or the file's one client.
  const only = /^const client = realClient\('(ric\d)'\)/m.exec(source)?.[1]
  for (const [, list = '', body = ''] of source.matchAll(
    /for \(const companion of \[(.+?)\] as const\)((?:(?!for \().)*)/gs,
  )) {
    const client = /realClient\('(ric\d)'\)/.exec(body)?.[1] ?? only
    if (client) add(client, namesIn(list))
  }
  // { client: ric…, companion: '…' }
  for (const [, client = '', companion = ''] of source.matchAll(
    /client: (?:realClient\(')?(ric\d)(?:'\))?, companion: '(\w+)'/g,
  )) {
    add(client, [companion])
  }
  // Every client with every companion, but the gate only where there is one.
  const all = /runtimeClients\.flatMap\([^[]+\[(.+?)\] as const\)\s*\.filter\(companion => companion !== 'gate'/s.exec(
    source,
  )
  if (all?.[1]) {
    add('ric4', namesIn(all[1]))
    add(
      'ric3',
      namesIn(all[1]).filter(companion => companion !== 'gate'),
    )
  }
  return found
}
