// The parts of the command line that can be tried without running it.
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { parse } from 'yaml'
import { findHandler, handlerSetting } from '../../src/cli/handler-file.ts'
import { dockerCopy, hcl, shell, typescript, yaml } from '../../src/cli/quote.ts'
import { count, seconds } from '../../src/cli/values.ts'

describe('command line: FILE', () => {
  let folder: string
  const at = (path: string) => join(folder, path)

  beforeAll(() => {
    folder = realpathSync(mkdtempSync(join(tmpdir(), 'post-invoke-cli-')))
    mkdirSync(at('src'))
    for (const path of ['package.json', 'index.mjs', 'src/app.ts', 'src/both.js', 'src/both.ts', 'src/a.b.cts']) {
      writeFileSync(at(path), '')
    }
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  it.each([
    ['src/app.ts', 'src/app.ts', 'handler'],
    ['src/app', 'src/app.ts', 'handler'],
    ['src/app.handler', 'src/app.ts', 'handler'],
    ['src/app.ts.create', 'src/app.ts', 'create'],
    ['src/app.ts#create', 'src/app.ts', 'create'],
    ['src/app#api.create', 'src/app.ts', 'api.create'],
    ['src/app.api.create', 'src/app.ts', 'api.create'],
    ['src/both.handler', 'src/both.js', 'handler'],
    ['src/both.ts', 'src/both.ts', 'handler'],
    ['src/a.b.cts', 'src/a.b.cts', 'handler'],
    ['src/a.b.create', 'src/a.b.cts', 'create'],
    ['index.default', 'index.mjs', 'default'],
  ])('%s is %s and its export %s', (given, file, exported) => {
    expect(findHandler(at(given))).toEqual({
      file: at(file),
      exported,
      project: folder,
      isTypeScript: /ts$/.test(file),
    })
  })

  it.each([
    [
      'src/nothing.handler',
      /Expected FILE to be the handler: .*, got ".*src\/nothing\.handler"\. There is no such file in .*\/src\./,
    ],
    ['src', /got ".*src", which is a folder\./],
    ['src/app.ts#', /There is no such file/],
  ])('%s is refused', (given, message) => {
    expect(() => findHandler(at(given))).toThrow(message)
  })

  it('is on Lambda a path without its ending, and the export', () => {
    expect(handlerSetting(findHandler(at('src/app.ts#api.create')))).toBe('src/app.api.create')
    expect(handlerSetting(findHandler(at('index.mjs')))).toBe('index.handler')
  })
})

describe('command line: numbers', () => {
  it('takes seconds as Lambda has them', () => {
    expect(['0.5', '3', '900'].map(seconds)).toEqual([0.5, 3, 900])
    for (const wrong of ['', ' ', '0', '-1', '901', 'x', '3s', 'NaN']) expect(() => seconds(wrong)).toThrow('seconds')
  })

  it('takes whole counts', () => {
    expect(['1', '1000'].map(count)).toEqual([1, 1000])
    for (const wrong of ['', '0', '1.5', '-1', 'x', 'Infinity']) expect(() => count(wrong)).toThrow('whole number')
  })
})

describe('command line: quoting', () => {
  it.each([
    'layer.zip',
    '../a b/c.zip',
    'true',
    'no',
    '1.5',
    '- x',
    'a: b',
    "it's",
    '"',
    '#x',
    './x',
    '',
    'é',
    'x ',
    '.5',
    '.inf',
    '.Inf',
    '.NaN',
    '-.inf',
    '~',
    'null',
    'Null',
    'yes',
    'OFF',
    'y',
    '0x1f',
    '1e3',
    '2026-01-01',
    '12:30',
    '=',
    '<<',
    '._1',
    '!x',
    '&x',
    '*x',
    '%x',
    '@x',
    '`x`',
    '? x',
    '[x]',
    '{x}',
    '|',
    '>',
    'a\nb',
    '\ttab',
  ])('YAML reads %j back, in both of its versions', text => {
    for (const version of ['1.1', '1.2'] as const) {
      expect(parse(`key: ${yaml(text)}`, { version })).toEqual({ key: text })
    }
  })

  it('leaves plain what needs nothing', () => {
    expect([shell('fileb://layer.zip'), yaml('dist/layer.zip'), dockerCopy('a/', '/opt/')]).toEqual([
      'fileb://layer.zip',
      'dist/layer.zip',
      'COPY a/ /opt/',
    ])
  })

  it('quotes the rest', () => {
    expect(shell("a'b c")).toBe(String.raw`'a'\''b c'`)
    const [dollar, percent] = ['$', '%'].map(sign => `${sign}{b}`)
    expect(hcl(`a${dollar}${percent}"`)).toBe(String.raw`"a$${dollar}%${percent}\""`)
    expect(typescript(`it's "a" \\`)).toBe(String.raw`'it\'s "a" \\'`)
    expect(dockerCopy('a b/', '/opt/')).toBe('COPY ["a b/","/opt/"]')
  })
})
