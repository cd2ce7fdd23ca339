// The package inside a bundle, where Lambda finds nothing but one file: by every bundler that users have, in both module
// formats, minified or not, and twice in one.
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { type BundleOptions, bundle, everyBundle, nameOf } from '../support/bundle.ts'
import { realClient } from '../support/require-runtime-clients.ts'
import { type CompanionName, eventually, type Run, startRun } from '../support/run.ts'
import { builtInClient, type RuntimeClient } from '../support/runtime-clients.ts'
import { startTarget } from '../support/target.ts'

const TEST_MS = 60_000
const REQUESTS = ['r1', 'r2']

const root = fileURLToPath(new URL('../..', import.meta.url))
const event = JSON.parse(readFileSync(join(root, 'examples/api-gateway/event.json'), 'utf8'))

type Setup = { client: RuntimeClient; companion: CompanionName }
const builtIn: Setup[] = (['layer', 'internal', 'gate'] as const).map(companion => ({
  client: builtInClient,
  companion,
}))
const real: Setup[] = [
  ...(['layer', 'internal'] as const).map(companion => ({ client: realClient('ric3'), companion })),
  ...(['layer', 'gate'] as const).map(companion => ({ client: realClient('ric4'), companion })),
]

/** AWS's own clients for the bundles that differ most from the sources. */
const setupsOf = ({ minify }: BundleOptions) => (minify ? [...builtIn, ...real] : builtIn)

const start = ({ client, companion }: Setup, taskRoot: string): Promise<Run> =>
  startRun({ client, companion, taskRoot, freeze: true, environment: { POST_INVOKE_LOG_LEVEL: 'DEBUG' } })

/** What the package says at init, and nothing after it. */
const companions = (run: Run) => run.logged('').map(line => line.replace(/.*middy-post-invoke: /, ''))

const registrations = ({ sandbox }: Run) =>
  sandbox.events.flatMap(entry =>
    entry.type === 'extension-registered' ? [`${entry.kind}: ${entry.events.join(' ') || 'no events'}`] : [],
  )

/** One for everything in the process. With the gate it is there for SIGTERM alone. */
const expectedRegistration = {
  layer: 'external: INVOKE SHUTDOWN',
  internal: 'internal: INVOKE',
  gate: 'internal: no events',
}

describe.each(everyBundle.map(options => [nameOf(options), options] as const))('bundled by %s', (_, options) => {
  it(
    'answers, runs the tasks after the answer while the environment is held, and runs the shutdown hook',
    async () => {
      using bundled = await bundle(join(root, 'examples/api-gateway/handler.ts'), options)
      for (const setup of setupsOf(options)) await expectExample(setup, bundled.folder)
    },
    TEST_MS,
  )

  it(
    'runs what it hands off, with what runs it inside the bundle or in the layer',
    async () => {
      using bundled = await bundle(join(root, 'test/fixtures/bundles/hand-off.mjs'), options)
      writeFileSync(
        join(bundled.folder, 'jobs.mjs'),
        "export const post = url => fetch(url, { method: 'POST', body: 'job' })",
      )
      for (const { client, companion } of setupsOf(options)) {
        await using target = await startTarget()
        const environment = { POST_INVOKE_JOBS: 'jobs.mjs', POST_INVOKE_SPOOL: join(bundled.folder, 'spool') }
        const run = await startRun({ client, companion, taskRoot: bundled.folder, freeze: true, environment })
        await using _sandbox = run.sandbox
        expect((await run.invoke({ url: target.url })).body()).toBe('answer')
        await eventually(() => target.received.length === 2, 'both have come')
        expect(target.received.map(({ body }) => String(body)).sort()).toEqual(['body', 'job'])
        expect(run.logged('middy-post-invoke')).toEqual([])
      }
    },
    TEST_MS,
  )
})

describe.each(everyBundle.map(options => [nameOf(options), options] as const))(
  'bundled for the layer, by %s',
  (_, options) => {
    it(
      'leaves the script of the internal extension out, works beside the layer, and says so where there is none',
      async () => {
        const handler = join(root, 'examples/api-gateway/handler.ts')
        using whole = await bundle(handler, options)
        using bundled = await bundle(handler, { ...options, forLayer: true })
        const script = '/2020-01-01/extension/'
        expect(readFileSync(whole.file, 'utf8')).toContain(script)
        expect(readFileSync(bundled.file, 'utf8')).not.toContain(script)
        for (const setup of setupsOf(options)) {
          if (setup.companion === 'layer') await expectExample(setup, bundled.folder)
        }
      },
      TEST_MS,
    )
  },
)

const expectExample = async (setup: Setup, folder: string) => {
  const run = await start(setup, folder)
  await using sandbox = run.sandbox
  const steps = () =>
    sandbox.logs.flatMap(({ text, at }) => {
      const json = /\{"task".*\}/.exec(text)?.[0]
      return json ? [{ at, ...(JSON.parse(json) as { task: string; state: string }) }] : []
    })
  for (const [index, requestId] of REQUESTS.entries()) {
    const report = await run.invoke(event, requestId)
    expect(report).toMatchObject({ status: 'success', kind: 'response' })
    expect(report.body().statusCode).toBe(201)
    // The environment is frozen from the release on: what has not run by then does not come.
    await eventually(() => steps().length >= (index + 1) * 4, 'the tasks have ended')
    const own = steps().slice(index * 4)
    expect(own.map(({ task, state }) => `${task} ${state}`)).toEqual([
      ...['audit started', 'audit ended', 'analytics started', 'analytics ended'],
    ])
    const response = sandbox.events.find(entry => entry.type === 'response' && entry.requestId === requestId)
    for (const { at } of own) expect(at).toBeGreaterThan(response?.at ?? Number.NaN)
  }
  await sandbox.shutdown()
  await eventually(() => steps().at(-1)?.state === 'ended', 'the shutdown hook has ended')
  expect(steps().at(-1)?.task).toBe('close orders')
  expect(companions(run)).toEqual([`companion: ${setup.companion}`])
  expect(registrations(run)).toEqual([expectedRegistration[setup.companion]])
}

describe.each(everyBundle.filter(({ minify }) => minify).map(options => [nameOf(options), options] as const))(
  'bundled for nodejs22.x, by %s',
  (_, options) => {
    const ric3 = real.filter(({ client }) => client.kind === 'ric3')
    const fixture = (name: string) => join(root, 'test/fixtures/bundles', name)

    it(
      'has Node.js track promises only where an import, early or late, has to find its invocation',
      async () => {
        using without = await bundle(fixture('without-finder.mjs'), options)
        using withIt = await bundle(fixture('with-finder.mjs'), options)
        for (const setup of ric3) {
          expect(await invokeTwice(setup, without.folder)).toEqual({
            answers: [{ isTracked: false }, { isTracked: false }],
            marks: ['inner task of r1', 'task of r1', 'inner task of r2', 'task of r2'],
          })
          const { answers } = await invokeTwice(setup, withIt.folder)
          expect(answers).toEqual([{ isTracked: true }, { isTracked: true }])
          const { marks } = await invokeTwice(setup, without.folder, { late: withIt.file })
          expect(marks).toEqual([
            ...['imported task of r1', 'inner task of r1', 'task of r1'],
            ...['ERR_NO_INVOCATION', 'imported task of r2', 'inner task of r2', 'task of r2'],
          ])
        }
      },
      TEST_MS,
    )
  },
)

const invokeTwice = async (setup: Setup, folder: string, event = {}) => {
  const run = await start(setup, folder)
  await using _sandbox = run.sandbox
  const answers: unknown[] = []
  for (const requestId of REQUESTS) {
    const report = await run.invoke(event, requestId)
    expect(report).toMatchObject({ status: 'success', kind: 'response' })
    answers.push(report.body())
  }
  return { answers, marks: run.marks().map(({ what }) => what) }
}

describe('two copies in one bundle', () => {
  let project: string

  beforeAll(() => {
    project = mkdtempSync(join(tmpdir(), 'post-invoke-copies-'))
    cpSync(join(root, 'test/fixtures/bundles'), project, { recursive: true })
    const modules = join(project, 'node_modules')
    mkdirSync(join(modules, '@middy'), { recursive: true })
    for (const name of ['@middy/core', '@middy/util']) {
      symlinkSync(join(root, 'node_modules', name), join(modules, name))
    }
    cpSync(join(project, 'library'), join(modules, 'library'), { recursive: true })
    for (const owner of [project, join(modules, 'library')]) {
      const copy = join(owner, 'node_modules', 'middy-post-invoke')
      mkdirSync(copy, { recursive: true })
      cpSync(join(root, 'package.json'), join(copy, 'package.json'))
      cpSync(join(root, 'dist'), join(copy, 'dist'), { recursive: true })
    }
  })

  afterAll(() => rmSync(project, { recursive: true }))

  it.each(everyBundle.map(options => [nameOf(options), options] as const))(
    'share one companion, one invocation and one drain: %s',
    async (_, options) => {
      using bundled = await bundle(join(project, 'index.mjs'), options)
      expectTwoCopies(bundled.file)
      for (const setup of setupsOf(options)) await expectShared(setup, bundled.folder)
    },
    TEST_MS,
  )
})

/** A string that stands in the package once: bundlers leave it alone, and one that leaves out a copy has it once. */
const expectTwoCopies = (file: string) => {
  const mark = 'WARN_NOT_REGISTERED'
  const count = (text: string) => text.split(mark).length - 1
  expect(count(readFileSync(join(root, 'dist/index.js'), 'utf8'))).toBe(1)
  expect(count(readFileSync(file, 'utf8'))).toBe(2)
}

const expectShared = async (setup: Setup, folder: string) => {
  const run = await start(setup, folder)
  await using sandbox = run.sandbox
  const marks = () => run.marks().map(({ what }) => what)
  for (const [index, requestId] of REQUESTS.entries()) {
    const report = await run.invoke({}, requestId)
    expect(report).toMatchObject({ status: 'success', kind: 'response' })
    expect(report.body()).toBe('answer')
    await eventually(() => marks().length >= (index + 1) * 7, 'the tasks have ended')
    expect(marks().slice(index * 7)).toEqual([
      'inner handler',
      ...['library', 'handler, imported', 'handler'].flatMap(name => [`start ${name}`, `end ${name}`]),
    ])
  }
  await sandbox.shutdown()
  await eventually(() => marks().length >= REQUESTS.length * 7 + 2, 'the shutdown hooks have run')
  expect(marks().slice(-2)).toEqual(['hook of the handler', 'hook of the library'])
  expect(companions(run)).toEqual([`companion: ${setup.companion}`])
  expect(registrations(run)).toEqual([expectedRegistration[setup.companion]])
}
