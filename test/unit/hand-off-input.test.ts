// Everything that users can give to handOff(): what is taken, verbatim, and what is refused with which words.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import middy from '@middy/core'
import fc from 'fast-check'
import { PostInvokeError } from '../../src/errors.ts'
import { type Entry, MAX_ENTRY_BYTES, parseEntry } from '../../src/hand-off/entry.ts'
import { RUNNER } from '../../src/hand-off/find-runner.ts'
import withHandOff, { handOff } from '../../src/hand-off/index.ts'
import { toJson } from '../../src/hand-off/json.ts'
import { validateJob, validateRequest } from '../../src/hand-off/validate.ts'
import postInvoke from '../../src/index.ts'
import { lambdaContext, thrownBy, until } from './helpers.ts'

/** Stands for what runs handed-off work, which is only there once it is built: here all of it stays in the spool. */
const runsNothing = () => undefined
Object.assign(globalThis, { [RUNNER]: runsNothing })

const folder = mkdtempSync(join(tmpdir(), 'post-invoke-'))
const spool = join(folder, 'spool')
writeFileSync(join(folder, 'jobs.mjs'), '')

/** Both ways to hand off, of an invocation that stays open. */
const ways: Record<string, (...given: any[]) => void> = {}
beforeAll(async () => {
  process.env.POST_INVOKE_SPOOL = spool
  process.env.POST_INVOKE_TASK_ROOT = folder
  process.env.POST_INVOKE_JOBS = 'jobs.mjs'
  await new Promise<void>(ready => {
    middy<any, any>()
      .use(postInvoke())
      .use(withHandOff())
      .handler(async (_event, context) => {
        ways['context.handOff()'] = context.handOff
        const { AsyncLocalStorage } = await import('node:async_hooks')
        const inside = AsyncLocalStorage.snapshot()
        ways['the imported handOff()'] = (...given) => inside(() => (handOff as any)(...given))
        ready()
        await new Promise(() => {})
      })({}, lambdaContext('r1'))
  })
})
beforeEach(() => rmSync(spool, { recursive: true, force: true }))
afterAll(() => {
  rmSync(folder, { recursive: true, force: true })
  delete process.env.POST_INVOKE_SPOOL
  delete process.env.POST_INVOKE_JOBS
  delete process.env.POST_INVOKE_TASK_ROOT
})

const spooled = (): Entry[] =>
  readdirSync(spool)
    .sort()
    .map(name => parseEntry(readFileSync(join(spool, name), 'utf8')) as Entry)

const url = 'https://collector.example/events'
const cycle: Record<string, unknown> = {}
cycle.self = cycle

const BODY = 'Expected the option body of a request to be text that UTF-8 can hold, bytes or URLSearchParams'
const HEADER = 'Expected a header of text that HTTP can hold, and none that the client sets itself'
const KEY = 'Expected the option idempotencyKey of handOff() to be 1 to 200 visible ASCII characters'

const refusals: [string, any[], string][] = [
  ['a method that is none', [{ url, method: { toString: () => 'GET' } }], 'got [Object].'],
  ['a url that is none', [{ url: { toString: () => url } }], 'to be a string or a URL, got [Object].'],
  ['no headers', [{ url, headers: null }], 'Expected the option headers of a request to be an object, got null.'],
  ['headers that are no pairs', [{ url, headers: ['ab'] }], `${HEADER}, got undefined.`],
  ['a header without a name', [{ url, headers: [[Symbol('a'), 'b']] }], `${HEADER}, got Symbol(a).`],
  ['a bigint as a number', [{ url }, { retry: { maxRetries: 1n } }], 'got 1n.'],
  ['a wait that no timer counts', [{ url }, { retry: { maxTimeout: 2 ** 31 } }], 'got 2147483648.'],
  [
    'a switch that is none',
    [{ url }, { dispatcher: { allowH2: 1 } }],
    'allowH2 of dispatcher to be true or false, got 1',
  ],
  ['headers as a payload', ['job', { h: new Headers({ a: 'b' }) }], 'but "h" is [Headers]'],
  ['an error as a payload', ['job', new Error('x')], 'but it is [Error]'],
  ['nothing', [undefined], 'Expected a request or the name of a job, got undefined.'],
  ['a function', [() => {}], 'Expected a request or the name of a job, got [Function (anonymous)].'],
  ['an array', [[]], 'Expected a request or the name of a job, got [Array].'],
  [
    'an unknown key',
    [{ url, uri: url }],
    "Expected the options of a request to be among url, method, headers, body, got 'uri'.",
  ],
  ['no url', [{ method: 'POST' }], 'Expected an absolute URL with http: or https:, got undefined.'],
  ['a relative url', [{ url: '/events' }], "got '/events'"],
  ['a file', [{ url: 'file:///etc/passwd' }], 'with http: or https:'],
  ['a script', [{ url: 'javascript:alert(1)' }], 'with http: or https:'],
  ['a url with a line break', [{ url: `${url}\r\nHost: evil` }], 'with http: or https:'],
  ['a url with a tab', [{ url: 'https://colle\tctor.example' }], 'with http: or https:'],
  ['a url with half a character', [{ url: `${url}/\ud800` }], 'with http: or https:'],
  [
    'a password in the url',
    [{ url: 'https://user:secret@collector.example' }],
    "Expected a URL without a user and a password, got 'https://collector.example'.",
  ],
  ['an unknown method', [{ url, method: 'CONNECT' }], "PUT, DELETE, POST, PATCH, got 'CONNECT'."],
  [
    'a method with a line break',
    [{ url, method: 'GET\r\nX: y' }],
    'Expected the option method of a request to be GET, HEAD, ',
  ],
  [
    'a body with GET',
    [{ url, method: 'get', body: '' }],
    "Expected a request with a body to have another method, got 'GET'.",
  ],
  [
    'headers that are none',
    [{ url, headers: 'x: y' }],
    "Expected the option headers of a request to be an object, got 'x: y'.",
  ],
  ['a header with a number', [{ url, headers: { a: 1 } }], `${HEADER}, got 'a'.`],
  ['a header with a line break', [{ url, headers: { a: 'b\r\nc: d' } }], `${HEADER}, got `],
  ['a header with a NUL', [{ url, headers: { a: 'b\0' } }], `${HEADER}, got `],
  ['a header that HTTP cannot hold', [{ url, headers: { a: '雨' } }], `${HEADER}, got `],
  ['a header name with a line break', [{ url, headers: { 'a\r\nb': 'c' } }], `${HEADER}, got `],
  [
    'a header of the connection',
    [{ url, headers: { 'Transfer-encoding': 'chunked' } }],
    `${HEADER}, got 'Transfer-encoding'.`,
  ],
  ['the host', [{ url, headers: [['HOST', 'evil']] }], `${HEADER}, got 'HOST'.`],
  ['an object as a body', [{ url, body: { a: 1 } }], `${BODY}, got [Object].`],
  ['half a character as a body', [{ url, body: 'a\udfff' }], `${BODY}, got 'a\\udfff'.`],
  ['a Request with a body', [new Request(url, { method: 'POST', body: 'x' })], 'a Request without a body'],
  ['a name for options', [{ url }, 'mail'], "Expected the options of handOff() to be an object, got 'mail'."],
  [
    'an unknown option',
    [{ url }, { timeout: 1 }],
    'Expected the options of handOff() to be among name, maxAge, idempotencyKey, retry, ',
  ],
  ['a name that is none', [{ url }, { name: 1 }], 'Expected the option name of handOff() to be a string, got 1.'],
  ['an unknown retry', [{ url }, { retry: { times: 3 } }], 'Expected the options of retry to be among maxRetries, '],
  [
    'a negative retry',
    [{ url }, { retry: { maxRetries: -1 } }],
    'Expected the option maxRetries of retry to be a number from 0 to 2147483647, got -1.',
  ],
  [
    'codes that are none',
    [{ url }, { retry: { statusCodes: ['500'] } }],
    'Expected the option statusCodes of retry to be an array of whole numbers, got [Array].',
  ],
  [
    'a dispatcher that is none',
    [{ url }, { dispatcher: 3 }],
    'Expected the options of dispatcher to be an object, got 3.',
  ],
  [
    'a timeout that is none',
    [{ url }, { dispatcher: { bodyTimeout: '1s' } }],
    'Expected the option bodyTimeout of dispatcher to be a number from 0 to ',
  ],
  [
    'an age of nothing',
    [{ url }, { maxAge: 0 }],
    'Expected the option maxAge of handOff() to be a whole number from 1 up, got 0.',
  ],
  [
    'redirects that are none',
    [{ url }, { maxRedirections: true }],
    'Expected the option maxRedirections of handOff() to be a whole number from 0 up, got true.',
  ],
  ['a key with a space', [{ url }, { idempotencyKey: 'a b' }], `${KEY}, got 'a b'.`],
  ['a key with a line break', ['job', null, { idempotencyKey: 'a\r\nb: c' }], `${KEY}, got `],
  ['a key that is too long', ['job', null, { idempotencyKey: 'x'.repeat(201) }], `${KEY}, got `],
  [
    'redirects of jobs',
    ['job', null, { maxRedirections: 1 }],
    'Expected the options of handOff() to be among name, maxAge, idempotencyKey, retry, ',
  ],
  ['no job', [''], "Expected the name of a job, got ''."],
  ['a function as a payload', ['job', () => {}], 'to be JSON, but it is [Function (anonymous)]'],
  ['a bigint', ['job', { n: 1n }], 'but "n" is 1n'],
  ['NaN', ['job', { n: Number.NaN }], 'but "n" is NaN'],
  ['a symbol', ['job', [Symbol('x')]], 'is Symbol(x)'],
  ['a map', ['job', { m: new Map() }], 'but "m" is [Map]'],
  ['bytes', ['job', { b: new Uint8Array(1) }], 'but "b" is [Uint8Array]'],
  ['a cycle', ['job', cycle], 'circular'],
  [
    'too much',
    ['job', 'x'.repeat(MAX_ENTRY_BYTES)],
    `Expected work of at most ${MAX_ENTRY_BYTES} bytes as JSON, got 262`,
  ],
  [
    'retries of requests',
    ['job', null, { retry: { statusCodes: [500] } }],
    'Expected the options of retry to be among maxRetries, ',
  ],
  [
    'a timeout of nothing',
    ['job', null, { timeout: 0 }],
    'Expected the option timeout of handOff() to be a whole number from 1 up, got 0.',
  ],
]

describe('refused, and not written down, is', () => {
  it.each(refusals)('%s', (_what, given, words) => {
    for (const way of Object.values(ways)) {
      const error = thrownBy(() => way(...given)) as PostInvokeError
      expect(error).toBeInstanceOf(PostInvokeError)
      expect([error.code, error.message]).toEqual(['ERR_INVALID_HAND_OFF', expect.stringContaining(words)])
    }
    expect(thrownBy(spooled)).toMatchObject({ code: 'ENOENT' })
  })

  it.each([
    ['a body', { body: { a: 1 } }],
    ['a method', { method: 1 }],
    ['headers', { headers: null }],
  ])('%s that a class gives, as one that stands in an object', (_what, inherited) => {
    for (const way of Object.values(ways)) {
      const error = thrownBy(() => way(Object.create(inherited, { url: { value: url } })))
      expect(error).toMatchObject({ name: 'PostInvokeError', code: 'ERR_INVALID_HAND_OFF' })
    }
  })

  it('not told of again, for it may hold a password', () => {
    const headers = { authorization: 'secret' }
    const [way] = Object.values(ways) as [(...given: any[]) => void]
    const error = thrownBy(() => way({ url, method: 'STEAL', headers })) as PostInvokeError
    expect(error.cause).toEqual({ package: 'middy-post-invoke' })
    const refused = thrownBy(() => way('job', { password: 'secret', at: new Map() })) as PostInvokeError
    expect(refused.cause).toEqual({ package: 'middy-post-invoke' })
  })

  it('whatever else it is, with no other error', () => {
    const refused = (check: () => unknown) => {
      const error = thrownBy(check)
      if (error !== undefined) expect(error).toMatchObject({ name: 'PostInvokeError', code: 'ERR_INVALID_HAND_OFF' })
    }
    const anything = fc.anything({
      withNullPrototype: true,
      withTypedArray: true,
      withSparseArray: true,
      withMap: true,
    })
    const options = fc.oneof(
      anything,
      fc.record({ name: anything, retry: anything }),
      fc.record({ retry: fc.record({ maxRetries: anything, statusCodes: anything }), maxAge: anything }),
      fc.record({ dispatcher: fc.record({ connections: anything }), idempotencyKey: anything }),
    )
    const requests = fc.oneof(
      anything,
      fc.record({ url: anything }),
      fc.record({ url: fc.constant(url), method: anything }),
      fc.record({ url: fc.constant(url), headers: fc.oneof(anything, fc.array(anything)), body: anything }),
    )
    fc.assert(
      fc.property(requests, anything, options, (request, payload, given) => {
        refused(() => validateRequest(request, given))
        refused(() => validateJob('job', payload, given))
      }),
      { numRuns: 2_000 },
    )
  })

  it('what is handed off outside an invocation', () => {
    expect(thrownBy(() => handOff({ url }))).toMatchObject({ code: 'ERR_NO_INVOCATION' })
  })

  it('what is handed off after its invocation', async () => {
    const handOffs: any[] = []
    const handler = middy<any, any>()
      .use(postInvoke())
      .use(withHandOff())
      .handler(async (_event, context) => void handOffs.push(context.handOff))
    await handler({}, lambdaContext('r2'))
    await until(() => thrownBy(() => handOffs[0]({ url })) !== undefined)
    expect(thrownBy(() => handOffs[0]({ url }))).toMatchObject({
      code: 'ERR_NO_INVOCATION',
      message: 'Expected handOff() before request r2 settled, got a call after.',
    })
  })

  it('the middleware without postInvoke() before it', async () => {
    const handler = middy<any, any>()
      .use(withHandOff())
      .handler(async () => {})
    await expect(handler({}, lambdaContext())).rejects.toMatchObject({ code: 'ERR_NO_INVOCATION' })
  })
})

const written: [string, any[], object][] = [
  ['a url', [{ url }], { kind: 'request', url, method: 'GET', headers: [] }],
  ['a URL', [{ url: new URL('http://a.example/b?c=d#e') }], { url: 'http://a.example/b?c=d', method: 'GET' }],
  ['a body', [{ url, body: 'x' }], { method: 'POST', body: 'x' }],
  ['bytes', [{ url, method: 'put', body: new Uint8Array([0, 255]) }], { method: 'PUT', body: 'AP8=', isBase64: true }],
  ['a buffer', [{ url, body: new Uint8Array([1]).buffer }], { body: 'AQ==', isBase64: true }],
  [
    'a form',
    [{ url, body: new URLSearchParams({ a: '1&2' }) }],
    { body: 'a=1%262', headers: [['Content-Type', 'application/x-www-form-urlencoded;charset=UTF-8']] },
  ],
  ['headers', [{ url, headers: { 'X-A': 'b' } }], { headers: [['X-A', 'b']] }],
  ['pairs', [{ url, headers: [['a', '1'], ['a', '2']] }], { headers: [['a', '1'], ['a', '2']] }], // biome-ignore format: pairs
  ['Headers', [{ url, headers: new Headers({ a: 'b' }) }], { headers: [['a', 'b']] }],
  [
    'a Request',
    [new Request(url, { method: 'DELETE', headers: { a: 'b' } })],
    { method: 'DELETE', headers: [['a', 'b']] },
  ],
  [
    'options',
    [{ url }, { retry: { maxRetries: 0, statusCodes: [500] } }],
    { retry: { maxRetries: 0, statusCodes: [500] } },
  ],
  [
    'a job',
    ['mail', { to: 'x', at: new Date(0) }],
    { kind: 'job', job: 'mail', payload: { to: 'x', at: '1970-01-01T00:00:00.000Z' } },
  ],
  ['a job without a payload', ['mail'], { kind: 'job', job: 'mail' }],
  ['a job with a timeout', ['mail', null, { timeout: 5 }], { payload: null, timeout: 5 }],
]

describe('written down, before handOff() returns, is', () => {
  it.each(written)('%s', (_what, given, work) => {
    for (const way of Object.values(ways)) way(...given)
    expect(spooled().map(entry => entry.work)).toEqual([expect.objectContaining(work), expect.objectContaining(work)])
  })

  it('each with a key of its own, in order', () => {
    const [way] = Object.values(ways) as [(...given: any[]) => void]
    for (const name of ['a', 'b', 'c']) way({ url: `${url}/own` }, { name })
    const entries = spooled()
    expect(entries.map(({ name }) => name)).toEqual(['a', 'b', 'c'])
    expect(new Set(entries.map(({ key }) => key.replace(/-\d+$/, ''))).size).toBe(1)
    expect(entries.map(({ key }) => /^r1-[0-9a-f]{16}-(\d+)$/.exec(key)?.[1])).toEqual(['1', '2', '3'])
  })

  it('with the same key in whichever order it is handed off', async () => {
    const work: any[][] = [[{ url }], ['mail', { to: 'a' }], ['mail', { to: 'b' }], [{ url, body: 'x' }], [{ url }]]
    const keysOf = async (...order: number[]) => {
      rmSync(spool, { recursive: true, force: true })
      let entries: Entry[] = []
      const handler = middy<any, any>()
        .use(postInvoke())
        .use(withHandOff())
        .handler(async (_event, context) => {
          for (const index of order) (context.handOff as any)(...(work[index] ?? []))
          entries = spooled()
          rmSync(spool, { recursive: true, force: true })
        })
      await handler({}, lambdaContext('again'))
      return entries.map(({ key, work }) => [key, JSON.stringify(work)]).sort()
    }
    const keys = await keysOf(0, 1, 2, 3, 4)
    expect(new Set(keys.map(([key]) => key)).size).toBe(work.length)
    expect(await keysOf(4, 2, 3, 0, 1)).toEqual(keys)
  })

  it('with another key for any other content', () => {
    const [way] = Object.values(ways) as [(...given: any[]) => void]
    const count = 500
    for (let index = 0; index < count; index++) way({ url, body: `body ${index}` })
    const hashes = spooled().map(({ key }) => key.split('-')[1])
    expect(hashes.every(hash => /^[0-9a-f]{16}$/.test(hash ?? ''))).toBe(true)
    for (const half of [0, 8]) expect(new Set(hashes.map(hash => hash?.slice(half, half + 8))).size).toBe(count)
  })

  it('with the key of the same content, whatever its options are', () => {
    const [way] = Object.values(ways) as [(...given: any[]) => void]
    way({ url, body: 'same' })
    way({ url, body: 'same' }, { retry: { maxRetries: 1 }, maxRedirections: 3 })
    const [first, second] = spooled().map(({ key }) => key.split('-'))
    expect([first?.at(-2), first?.at(-1), second?.at(-1)]).toEqual([second?.at(-2), '1', '2'])
  })

  it("with the caller's own key, and one of its own for a queue beside that", () => {
    const [way] = Object.values(ways) as [(...given: any[]) => void]
    way({ url }, { idempotencyKey: 'order-17' })
    way('mail', null, { idempotencyKey: 'order-17' })
    const entries = spooled()
    expect(entries.map(({ key }) => key)).toEqual(['order-17', 'order-17'])
    expect(new Set(entries.map(({ id }) => id)).size).toBe(2)
  })
})

describe('as it is given arrives', () => {
  it('any JSON as a payload', () => {
    fc.assert(
      fc.property(fc.jsonValue(), value => {
        expect(toJson(value)).toEqual(JSON.parse(JSON.stringify(value)))
      }),
    )
  })

  it('any text as a body, and any header that HTTP can hold', () => {
    const printable = fc.stringMatching(/^[\x20-\x7e\xa0-\xff]*$/)
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), printable, (body, header) => {
        const { work } = validateRequest({ url, body, headers: { 'x-header': header } }, undefined)
        expect(work).toMatchObject({ body, headers: [['x-header', header]] })
      }),
    )
  })
})
