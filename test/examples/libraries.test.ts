// Each line of docs/libraries.md, with the real library, in an environment that is frozen between invocations: as the page
// says to write it, and what happens otherwise. What a library calls answers when the test says so, so that nothing here
// depends on how fast anything is.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from '@jest/globals'
import { root } from '../package/packed.ts'
import { type CompanionName, eventually, type Run, startRun } from '../support/run.ts'
import { builtInClient as client } from '../support/runtime-clients.ts'
import { startTarget, type Target } from '../support/target.ts'
import { project } from './project.ts'

const TEST_MS = 60_000

const { path } = project('libraries')
const event = JSON.parse(readFileSync(join(root, 'examples', 'api-gateway', 'event.json'), 'utf8'))

/** The rows of the page: the file, the line that is shown of it, and what happens otherwise. */
const rows = readFileSync(join(root, 'docs', 'libraries.md'), 'utf8')
  .split('\n')
  .filter(line => line.startsWith('| ['))
  .map(line => {
    const [name = '', code = '', otherwise = ''] = line.slice(2, -2).split(' | ')
    return { file: /\]\(\.\.\/(.+?)\)/.exec(name)?.[1] ?? '', line: /`([^`]+)`/.exec(code)?.[1] ?? '', otherwise }
  })

const names = readdirSync(path('.'))
  .filter(name => name.endsWith('.ts') && name !== 'close-idle.ts')
  .map(name => name.replace('.ts', ''))

/** They need a database: test/postgres runs them. */
const withDatabase = ['drizzle', 'pg', 'typeorm']

describe('docs/libraries.md', () => {
  it('has a row for each example', () => {
    expect(
      rows
        .map(({ file }) => file)
        .filter(file => file.startsWith('examples/libraries/'))
        .sort(),
    ).toEqual(names.map(name => `examples/libraries/${name}.ts`).sort())
  })

  it.each(rows)('shows a line of $file', ({ file, line }) => {
    expect(line).not.toBe('')
    expect(readFileSync(join(root, file), 'utf8')).toContain(line)
  })
})

/** What a library calls: a request in the background is answered once `open()` has been called. */
const startServices = async () => {
  const { promise: opened, resolve: open } = Promise.withResolvers<void>()
  const ends: number[] = []
  const target = await startTarget(async (response, request) => {
    response.setHeader('content-type', 'application/json')
    // Upstash's limit itself is waited for before the answer.
    if (!isInBackground(request)) return void response.end('[{"result":[1,10]}]')
    await opened
    ends.push(Number(process.hrtime.bigint()) / 1e6)
    response.end('[{"result":1}]')
  })
  return { ...target, open, ends, background: () => target.received.filter(isInBackground) }
}

const isInBackground = ({ body }: Target['received'][number]) => !/evalsha/i.test(String(body))

describe.each(names.filter(name => !withDatabase.includes(name)))('%s', name => {
  const runs: Run[] = []
  afterEach(async () => {
    await Promise.all(runs.splice(0).map(({ sandbox }) => sandbox[Symbol.asyncDispose]()))
  }, TEST_MS)

  const start = async (url: string, handler: string, companion: CompanionName = 'gate') => {
    const run = await startRun({
      client,
      companion,
      taskRoot: path('.'),
      handler: `${name}.${handler}`,
      freeze: true,
      environment: { SERVICES_URL: url },
    })
    runs.push(run)
    return run
  }

  it.each(['gate', 'layer'] as const)(
    'is done after the answer and before the freeze: %s',
    async companion => {
      await using services = await startServices()
      const run = await start(services.url, 'handler', companion)
      const { answered, released } = run.sandbox.send(event)
      expect((await answered).body().statusCode).toBeLessThan(300) // nothing has been answered by then
      await eventually(() => services.background().length > 0, 'the library has called')
      services.open()
      const { status, requestId } = await released
      expect(status).toBe('success')
      expect(services.ends).toHaveLength(services.background().length)
      for (const end of services.ends) expect(end).toBeLessThan(run.time('released', requestId))
      expect(run.logged('')).toEqual([])
    },
    TEST_MS,
  )

  const { otherwise = '' } = rows.find(({ file }) => file.endsWith(`/${name}.ts`)) ?? {}

  if (otherwise.startsWith('The answer waits')) {
    it('holds the answer up otherwise', () => holdsUp('otherwise'), TEST_MS)
  } else {
    it(
      'is cut off by the freeze otherwise',
      async () => {
        expect(otherwise).toMatch(/^Late or lost/)
        await using services = await startServices()
        const run = await start(services.url, 'otherwise')
        const { status } = await run.sandbox.invoke(event) // released, and nothing has been answered
        expect(status).toBe('success')
        services.open()
      },
      TEST_MS,
    )
  }

  const holdsUp = async (handler: string) => {
    await using services = await startServices()
    const run = await start(services.url, handler)
    const { answered, released } = run.sandbox.send(event)
    await eventually(() => services.background().length > 0, 'the library has called')
    services.open()
    expect((await answered).body().statusCode).toBeLessThan(300)
    const { requestId } = await released
    expect(services.ends.length).toBeGreaterThan(0)
    for (const end of services.ends) expect(end).toBeLessThan(run.time('response', requestId))
  }

  if (name === 'dd-trace') {
    it(
      "has the task's span written with the handler's as its parent",
      async () => {
        await using services = await startServices()
        services.open()
        const run = await start(services.url, 'handler')
        await run.invoke(event)
        const spans = run.sandbox.logs
          .filter(({ text }) => text.startsWith('{"traces"'))
          .flatMap(({ text }) => JSON.parse(text).traces.flat())
        const [order, audit] = ['order', 'audit'].map(name => spans.find(span => span.name === name))
        expect(order).toBeDefined()
        expect(audit).toMatchObject({ trace_id: order.trace_id, parent_id: order.span_id })
      },
      TEST_MS,
    )
  }

  if (name === 'sentry') {
    it('awaits its own flush before the answer: flushIfServerless()', () => holdsUp('ownFlush'), TEST_MS)

    it(
      'awaits it no more where the globals are there, and is cut off',
      async () => {
        await using services = await startServices()
        const run = await start(services.url, 'ownFlushWithGlobals')
        expect(await run.sandbox.invoke(event)).toMatchObject({ status: 'success' })
        services.open()
      },
      TEST_MS,
    )
  }
})
