// What comes from outside, made up at random: names and bytes in the spool, variables, templates, values of the command line
// and lines of log. What is wrong is refused with an error of ours that says so, and nothing else is ever thrown.
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from '@jest/globals'
import { InvalidArgumentError } from 'commander'
import fc from 'fast-check'
import { parse, stringify } from 'yaml'
import { readConfiguration } from '../../src/cli/configuration.ts'
import { UsageError } from '../../src/cli/errors.ts'
import { findHandler } from '../../src/cli/handler-file.ts'
import { readOwnLine } from '../../src/cli/log-lines.ts'
import { yaml } from '../../src/cli/quote.ts'
import { count, seconds } from '../../src/cli/values.ts'
import { PostInvokeError } from '../../src/errors.ts'
import { parseEntry } from '../../src/hand-off/entry.ts'
import { readHandOffBudget, readJobsModule, readOverflowQueue, readSpool } from '../../src/hand-off/settings.ts'
import { nameOf, parseName } from '../../src/hand-off/spool.ts'
import { SpoolReader } from '../../src/hand-off/spool-reader.ts'
import * as variables from '../../src/variables.ts'
import { randomRuns } from '../support/random-runs.ts'

const folder = mkdtempSync(join(tmpdir(), 'post-invoke-fuzz-'))
afterAll(() => rmSync(folder, { recursive: true }))

const { seed, runs, limit } = randomRuns({ seed: 1, runs: 1_000 })
const settings = { seed, numRuns: runs, interruptAfterTimeLimit: limit }
const LIMIT_MS = 3_600_000

/** Any text, and often one that is nearly right. */
const near = (...right: readonly string[]) =>
  fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.constantFrom(...right),
    fc
      .tuple(fc.constantFrom(...right), fc.string({ unit: 'binary', maxLength: 3 }), fc.nat(20))
      .map(([text, more, at]) => text.slice(0, at) + more + text.slice(at)),
  )

describe('variables', () => {
  it(
    'are taken, or refused by name',
    () => {
      const readers = {
        POST_INVOKE_COMPANION: variables.readCompanionMode,
        POST_INVOKE_LOG_LEVEL: variables.readLogLevel,
        POST_INVOKE_FOLDER: variables.readFolder,
        POST_INVOKE_SPOOL: readSpool,
        POST_INVOKE_JOBS: readJobsModule,
        POST_INVOKE_HAND_OFF_BUDGET: readHandOffBudget,
        POST_INVOKE_OVERFLOW_QUEUE_URL: readOverflowQueue,
        POST_INVOKE_COMMAND_ON: variables.readCommand,
      } as const
      const names = Object.keys(readers) as (keyof typeof readers)[]
      const text = near('auto', 'DEBUG', '/tmp/x', '../jobs.mjs', '900000', 'https://sqs.eu/1/q', 'response,error', '')
      fc.assert(
        fc.property(fc.constantFrom(...names), text, (name, value) => {
          try {
            readers[name]({ POST_INVOKE_COMMAND: 'true', LAMBDA_TASK_ROOT: folder, [name]: value })
          } catch (error) {
            expect(error).toBeInstanceOf(PostInvokeError)
            expect(error).toMatchObject({ code: 'ERR_INVALID_VARIABLE', message: expect.stringContaining(name) })
          }
        }),
        settings,
      )
    },
    LIMIT_MS,
  )
})

describe('the spool', () => {
  const due = Date.now()
  const name = nameOf({ due, accepted: due, attempts: 0, deaths: 0, token: 'abc', lane: '0123abcd', isTaken: false })

  it(
    'takes a name apart as it was put together, or not at all',
    () => {
      fc.assert(
        fc.property(near(name, `corrupt-${name}`, 'part-1'), text => {
          const piece = parseName(text)
          if (piece) expect(nameOf(piece)).toBe(text)
        }),
        settings,
      )
    },
    LIMIT_MS,
  )

  it(
    'reads an entry, or says why it is none',
    () => {
      const fields = fc.constantFrom(
        'version',
        'key',
        'id',
        'requestId',
        'name',
        'work',
        'kind',
        'job',
        'url',
        'method',
      )
      const value = fc.oneof(fc.jsonValue(), fc.constant(1), fc.constantFrom('request', 'job'))
      const work = fc.oneof(value, fc.dictionary(fields, value))
      const entry = fc.oneof(
        fc.dictionary(fields, value),
        fc.record({ version: fc.constant(1), key: value, id: value, requestId: value, name: value, work }),
      )
      fc.assert(
        fc.property(
          fc.oneof(
            fc.string(),
            fc.json(),
            entry.map(given => JSON.stringify(given)),
          ),
          text => {
            const read = parseEntry(text)
            if (typeof read === 'string') expect(read).toMatch(/^it/)
            else expect([typeof read.id, typeof read.name, typeof read.work]).toEqual(['string', 'string', 'object'])
          },
        ),
        settings,
      )
    },
    LIMIT_MS,
  )

  it(
    'lives with any files in its folder, and gives each that is a piece as it is',
    () => {
      const files = fc.dictionary(
        near(name, 'part-1', 'failed-1-a-0.json')
          .map(text => text.replace(/[/\0]/g, '_'))
          .filter(text => text !== '.' && text !== '..' && text !== '' && Buffer.byteLength(text) < 200),
        fc.option(fc.uint8Array({ maxLength: 100 })),
        { maxKeys: 4, noNullPrototype: true },
      )
      let index = 0
      fc.assert(
        fc.property(files, contents => {
          const spool = join(folder, `spool-${++index}`)
          mkdirSync(spool, { mode: 0o700 })
          for (const [file, bytes] of Object.entries(contents)) {
            if (bytes === null) mkdirSync(join(spool, file))
            else writeFileSync(join(spool, file), bytes, { mode: 0o600 })
          }
          const reader = new SpoolReader(spool)
          for (const piece of reader.list()) {
            const bytes = contents[nameOf(piece)]
            const claim = reader.take(piece, Date.now() + 60_000)
            if (bytes === undefined) continue
            expect(claim?.text).toBe(bytes === null ? undefined : Buffer.from(bytes).toString('utf8'))
            claim?.done()
          }
          // What is none of its own stays.
          const left = readdirSync(spool)
          for (const file of Object.keys(contents)) if (!parseName(file)) expect(left).toContain(file)
          rmSync(spool, { recursive: true })
        }),
        settings,
      )
    },
    LIMIT_MS,
  )
})

describe('templates', () => {
  const words = [
    'Resources',
    'Globals',
    'Function',
    'Properties',
    'Type',
    'Handler',
    'Runtime',
    'Timeout',
    'MemorySize',
  ]
  const more = [
    'Environment',
    'Variables',
    'Layers',
    'functions',
    'provider',
    'handler',
    'layers',
    'environment',
    'Ref',
  ]
  const values = ['AWS::Serverless::Function', 'AWS::Lambda::Function', 'index.handler', 'nodejs24.x', 'Image', 'x']
  const { document } = fc.letrec(tie => ({
    document: fc.oneof(
      { depthSize: 'medium' },
      fc.oneof(fc.constantFrom(...values), fc.string(), fc.integer(), fc.constant(null), fc.boolean()),
      fc.array(tie('document'), { maxLength: 3 }),
      fc.dictionary(fc.constantFrom(...words, ...more, 'Fn::GetAtt', '__proto__'), tie('document'), { maxKeys: 6 }),
    ),
  }))

  it(
    'are read, or refused as wrong usage',
    () => {
      writeFileSync(join(folder, 'index.mjs'), '')
      writeFileSync(join(folder, 'package.json'), '{}')
      const handler = findHandler(join(folder, 'index.handler'))
      const path = join(folder, 'template.yaml')
      const text = fc.oneof(
        document.map(value => stringify({ Resources: { f: { Type: values[0], Properties: value } } })),
        document.map(value => stringify({ functions: { f: value }, provider: value })),
        document.map(value => stringify(value)),
        near('Resources:\n  f: !Ref x\n', 'a: &a [*a]\n', 'functions: !Include x.yml\n'),
      )
      fc.assert(
        fc.property(text, fc.option(fc.constantFrom('f', 'g'), { nil: undefined }), (template, wanted) => {
          writeFileSync(path, template)
          try {
            const found = readConfiguration(path, handler, wanted)
            if (!found) return
            expect(typeof found.name).toBe('string')
            expect(['number', 'undefined']).toContain(typeof found.timeout)
            expect(['number', 'undefined']).toContain(typeof found.memory)
            expect(['string', 'undefined']).toContain(typeof found.runtime)
            for (const value of Object.values(found.variables)) expect(typeof value).toBe('string')
          } catch (error) {
            if (!(error instanceof UsageError)) throw error
          }
        }),
        settings,
      )
    },
    LIMIT_MS,
  )

  it(
    'hold any text that is written into them',
    () => {
      fc.assert(
        fc.property(near('handler.main', 'true', '1e3', '~', '- a', 'a: b', 'No', '0x1'), text => {
          expect(parse(`value: ${yaml(text)}\n`)).toEqual({ value: text })
        }),
        settings,
      )
    },
    LIMIT_MS,
  )
})

describe('the command line', () => {
  it(
    'takes numbers, or refuses the value',
    () => {
      fc.assert(
        fc.property(near('1', '900', '0.5', '1e2', '0x10', ' 3 ', 'Infinity', '-1'), text => {
          for (const read of [seconds, count]) {
            try {
              const value = read(text)
              expect(value).toBeGreaterThan(0)
              if (read === count) expect(Number.isInteger(value)).toBe(true)
            } catch (error) {
              if (!(error instanceof InvalidArgumentError)) throw error
            }
          }
        }),
        settings,
      )
    },
    LIMIT_MS,
  )

  it(
    'finds a handler, or says that there is none',
    () => {
      fc.assert(
        fc.property(near('index.handler', './src/index.ts#handler', '../x', 'a#b#c'), given => {
          const text = given.replaceAll('\0', '') // no argument of a command can hold one
          try {
            expect(findHandler(text).file.startsWith('/')).toBe(true)
          } catch (error) {
            if (!(error instanceof UsageError)) throw error
          }
        }),
        settings,
      )
    },
    LIMIT_MS,
  )

  it(
    'reads any line of log',
    () => {
      const line = near(
        'middy-post-invoke: the process ends in the middle of request r1; unfinished: "a", "b" and 2 more',
        'middy-post-invoke: handed-off work "a" of request r1 failed: Error: x',
        'middy-post-invoke: before task "a" of request r1 could run',
        '{"message":"middy-post-invoke: a fault of middy-post-invoke ended","error":null}',
        '{"message":{"message":"middy-post-invoke: x; not run: \\"a\\""}}',
        'null middy-post-invoke: ',
      )
      fc.assert(
        fc.property(
          fc.oneof(
            line,
            fc.json().map(json => `{"message":"middy-post-invoke: x","error":${json}}`),
          ),
          text => {
            for (const finding of readOwnLine(text)) expect(typeof finding.type).toBe('string')
          },
        ),
        settings,
      )
    },
    LIMIT_MS,
  )
})
