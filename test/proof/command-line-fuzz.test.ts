// The command line as a process, with arguments, files and variables made up at random: it ends, with one of its exit codes,
// it says what is wrong in words of its own, and a template that it prints is one.
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { parseDocument } from 'yaml'
import { postInvoke, root } from '../support/command-line.ts'
import { randomRuns } from '../support/random-runs.ts'

/** Handlers, events and configurations, right ones and odd ones. */
const files: Record<string, string | Uint8Array> = {
  'package.json': '{"type":"module"}',
  'index.mjs': 'export const handler = async () => "ok"',
  'a \'b\' "c" #d.mjs': 'export const handler = async () => "ok"',
  'ümlaut.mjs': 'export const handler = async () => "ok"',
  '- a: &b.mjs': 'export const handler = async () => "ok"',
  'tasks.mjs': `import { withPostInvoke } from 'middy-post-invoke/handler'
    export const handler = withPostInvoke(async (_event, context) => {
      context.defer(() => {}, { name: 'a' })
      context.defer(() => { throw undefined }, { name: 'b\\n\\u202e' })
    })`,
  'throws.mjs': 'export const handler = () => { throw null }',
  'at-load.mjs': 'throw undefined',
  'syntax.mjs': 'export const handler = (',
  'no-handler.mjs': 'export const other = 1',
  'number.mjs': 'export const handler = 42',
  'callback.mjs': 'export const handler = (event, context, done) => done(null, "ok")',
  'exits.mjs': 'export const handler = () => process.exit(3)',
  'kills.mjs': 'export const handler = () => process.kill(process.pid, "SIGKILL")',
  'hangs.mjs': 'export const handler = () => new Promise(() => setInterval(() => {}, 1000))',
  'circle.mjs': 'export const handler = () => { const o = {}; o.o = o; return o }',
  'large.mjs': 'export const handler = () => "x".repeat(7e6)',
  'writes.mjs': 'export const handler = () => { process.stdout.write("\\u001b[31m\\0 no line"); return 1n }',
  'function.ts': 'export const handler = async (event: object): Promise<string> => "ok"',
  'wrong.ts': 'export const handler = async (event: : object) => "ok"',
  'empty.mjs': '',
  'event.json': '{"a":1}',
  'broken.json': '{"a":',
  'bytes.json': new Uint8Array([0xff, 0xfe, 0x00, 0x22]),
  'variables.env': 'A=1\nB="x\n# c\n=d\n',
  'template.yaml':
    'Resources:\n  f:\n    Type: AWS::Serverless::Function\n    Properties: { Handler: index.handler }\n',
  'broken.yaml': 'Resources: [',
}
const handlers = [
  ...Object.keys(files).filter(name => /\.(mjs|ts)$/.test(name)),
  ...[
    'index.handler',
    'index.mjs#nothing',
    'folder',
    'nowhere.mjs',
    'unreadable.mjs',
    '',
    '#',
    '../x',
    '/',
    'package.json',
  ],
]
const paths = ['event.json', 'broken.json', 'bytes.json', 'variables.env', 'folder', 'nowhere', '-', '{}', '{', '']
const values = [
  '1',
  '0',
  '-1',
  'x',
  '0.5',
  '1e2',
  'NaN',
  '',
  'A=1',
  '=',
  'A',
  'nodejs24.x',
  'nodejs1.x',
  'iam',
  '\u202e',
]

let folder = ''
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'post-invoke-cli-fuzz-'))
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content)
  mkdirSync(join(folder, 'folder'))
  mkdirSync(join(folder, 'node_modules'))
  symlinkSync(root, join(folder, 'node_modules', 'middy-post-invoke'))
  writeFileSync(join(folder, 'unreadable.mjs'), '')
  chmodSync(join(folder, 'unreadable.mjs'), 0)
})
afterAll(() => rmSync(folder, { recursive: true }))

/** Short, and few: what hangs is to be seen to end. */
const limits = fc.oneof(
  { weight: 12, arbitrary: fc.constant<string[]>(['--timeout', '1']) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(['--timeout'], ['--timeout', '0'], ['--timeout', 'x'], ['--timeout', '1e9']),
  },
)
const options: Record<string, fc.Arbitrary<readonly string[]>> = {
  invoke: fc.oneof(
    fc.constantFrom(['--layer'], ['--embedded'], ['--freeze'], ['--json'], ['--no-bundle'], ['--nonsense']),
    fc.tuple(fc.constantFrom('--event', '-e', '--env-from'), fc.constantFrom(...paths)),
    fc.tuple(fc.constantFrom('--env', '--runtime'), fc.constantFrom(...values)),
    fc.constantFrom(['--count', '2'], ['-n', '0'], ['-n', 'x'], ['--svg', 'folder'], ['--svg', 'no/where.svg']),
  ),
  doctor: fc.oneof(
    fc.constantFrom(['--layer'], ['--embedded'], ['--json'], ['--no-bundle'], ['--nonsense']),
    fc.tuple(
      fc.constantFrom('--event', '--env-from', '--config'),
      fc.constantFrom(...paths, 'template.yaml', 'broken.yaml'),
    ),
    fc.tuple(fc.constantFrom('--function', '--env', '--runtime'), fc.constantFrom(...values)),
  ),
  template: fc.oneof(
    fc.constantFrom(['--embedded'], ['--layer', 'folder'], ['--layer', 'nowhere.zip'], ['--nonsense']),
    fc.tuple(fc.constantFrom('--runtime', '--url'), fc.constantFrom(...values)),
  ),
}
const variables = fc.dictionary(
  fc.constantFrom(
    'POST_INVOKE_COMPANION',
    'POST_INVOKE_LOG_LEVEL',
    'POST_INVOKE_FOLDER',
    'NO_COLOR',
    'FORCE_COLOR',
    'TZ',
    'COLUMNS',
  ),
  fc.constantFrom(...values, 'auto', 'DEBUG', '/nowhere'),
  { maxKeys: 2, noNullPrototype: true },
)
const calls = fc.constantFrom('invoke', 'doctor', 'template').chain(command =>
  fc.record({
    args: fc
      .tuple(
        fc.constantFrom(...handlers),
        command === 'template' ? fc.constant(['--out', '-']) : limits,
        fc.array(options[command] as fc.Arbitrary<readonly string[]>, { maxLength: 2 }),
      )
      .map(([handler, always, more]) => [command, handler, ...always, ...more.flat()]),
    env: variables,
    stdin: fc.constantFrom('', '{}', '{', '\0'),
  }),
)

const SIDE_BY_SIDE = 4

/** A frame of the command's own code. What a function throws is shown with its frames. */
const OWN_FRAME = /^\s+at .*dist\/(cli|chunk-\w+)\.js:\d+/m

it('ends with one of its exit codes, in words of its own', async () => {
  const { seed, runs, path, limit } = randomRuns({ seed: 1, runs: 48 })
  const codes = new Map<number | null, number>()
  const start = performance.now()
  const property = fc.asyncProperty(calls, async ({ args, env, stdin }) => {
    const { code, stdout, stderr } = await postInvoke(folder, args, { env, stdin })
    codes.set(code, (codes.get(code) ?? 0) + 1)
    if (code !== 0 && code !== 1 && code !== 2) throw new Error(`It ended with ${code}: ${stderr}`)
    expect(stderr + stdout).not.toMatch(OWN_FRAME)
    if (code === 2) expect(stderr).not.toBe('')
    if (code === 0 && args[0] === 'template' && !args.includes('--help')) {
      const template = parseDocument(stdout, { logLevel: 'error' }) // it has tags of CloudFormation's
      expect(template.errors).toEqual([])
      expect(parseDocument(String(template), { logLevel: 'error' }).toJS()).toEqual(template.toJS())
    }
  })
  const chains = path === undefined ? SIDE_BY_SIDE : 1
  await Promise.all(
    Array.from({ length: chains }, (_, chain) =>
      fc.assert(property, {
        seed: seed + chain,
        numRuns: Math.ceil(runs / chains),
        ...(path !== undefined && { path }),
        interruptAfterTimeLimit: limit,
      }),
    ),
  )
  console.info(`${JSON.stringify([...codes])} in ${Math.round(performance.now() - start)} ms`)
}, 3_600_000)
