// What runs handed-off work, in this process and against a real server: what is sent, what is tried again, what is logged,
// and what stays in the spool.
import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import type { Entry, JobWork, RequestWork } from '../../src/hand-off/entry.ts'
import { createRunner } from '../../src/hand-off/runner.ts'
import { createSpoolWriter, nameOf, parseName } from '../../src/hand-off/spool.ts'
import { SpoolReader } from '../../src/hand-off/spool-reader.ts'
import { validateRequest } from '../../src/hand-off/validate.ts'
import { startTarget } from '../support/target.ts'
import { recordLog, until } from './helpers.ts'

let folder: string
let spool: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'post-invoke-'))
  spool = join(folder, 'spool')
})
afterEach(() => {
  jobsModule = undefined
  rmSync(folder, { recursive: true, force: true })
})

const accept = (...works: (RequestWork | JobWork)[]) => acceptWith({}, ...works)

const acceptWith = (more: Partial<Entry>, ...works: (RequestWork | JobWork)[]) => {
  const add = createSpoolWriter(spool)
  works.forEach((work, index) => {
    const name = work.kind === 'request' ? work.method : work.job
    const id = `r1-${index}`
    const entry: Entry = { version: 1, key: id, id, requestId: 'r1', name, work, ...more }
    add(JSON.stringify(entry), laneOf(work))
  })
}

/** Eight hexadecimal digits of where it goes. */
const laneOf = (work: RequestWork | JobWork) =>
  Buffer.from(work.kind === 'request' ? new URL(work.url).port : work.job)
    .toString('hex')
    .padEnd(8, '0')
    .slice(0, 8)

const request = (url: string, more: Partial<RequestWork> = {}): RequestWork => ({
  kind: 'request',
  url,
  method: 'POST',
  headers: [],
  body: 'body',
  ...more,
  retry: { minTimeout: 1, timeoutFactor: 1, ...more.retry },
})

let jobsModule: string | undefined

/** A module of jobs, with `log` to say what ran. */
const jobs = (source: string) => {
  jobsModule = join(folder, `jobs-${Math.random()}.mjs`)
  writeFileSync(jobsModule, `const log = globalThis.jobLog; ${source}`)
  return (job: string, more: Partial<JobWork> = {}): JobWork => ({
    kind: 'job',
    job,
    ...more,
    retry: { minTimeout: 1, timeoutFactor: 1, ...more.retry },
  })
}

const create = (more: Partial<Parameters<typeof createRunner>[0]> = {}) => {
  const log = recordLog()
  const options = { isolatesJobs: false, overflowQueueUrl: undefined, jobsModule, budget: 10_000 }
  return { log, runner: createRunner({ spool, log, ...options, ...more }) }
}

const run = async (milliseconds = 10_000, isLast = false) => {
  const { log, runner } = create()
  await runner.run(Date.now() + milliseconds, isLast)
  return log
}

const messageOf = (log: ReturnType<typeof recordLog>) => String((log.lines[0]?.error as Error | undefined)?.message)

const waiting = () => new SpoolReader(spool).list().length

const setAside = () => readdirSync(spool).filter(name => /^(failed|corrupt)-/.test(name))

describe('a request', () => {
  it('is sent once, with a key, and is gone', async () => {
    await using target = await startTarget()
    accept(request(`${target.url}/a/b?c=d`, { headers: [['X-Twice', '1'], ['X-Twice', '2']] })) // biome-ignore format: pairs
    const log = await run()
    expect(target.received).toHaveLength(1)
    expect(target.received[0]).toMatchObject({ method: 'POST', path: '/a/b?c=d', body: Buffer.from('body') })
    expect(target.received[0]?.headers).toMatchObject({ 'x-twice': '1, 2', 'idempotency-key': 'r1-0' })
    expect(log.lines).toEqual([
      { level: 'debug', message: 'handed-off work "POST" of request r1 done: status 200, attempts: 1' },
    ])
    expect(readdirSync(spool)).toEqual([])
  })

  it('keeps a key that it was given', async () => {
    await using target = await startTarget()
    accept(request(target.url, { headers: [['idempotency-key', 'mine']] }))
    await run()
    expect(target.received[0]?.headers['idempotency-key']).toBe('mine')
  })

  it.each([408, 429, 500, 502, 503, 504])('is tried again after status %d, with the same key', async status => {
    await using target = await startTarget(response => {
      response.statusCode = target.received.length < 3 ? status : 204
      response.end()
    })
    accept(request(target.url))
    const log = await run()
    expect([...target.keys()]).toEqual([['r1-0', 3]])
    expect(log.of('debug').at(-1)).toContain('status 204, attempts: 3')
  })

  it('is given up after its retries: the log has method, status and attempts, and no path', async () => {
    await using target = await startTarget(response => {
      response.statusCode = 503
      response.end('secret')
    })
    accept(request(`${target.url}/path?token=secret`, { retry: { maxRetries: 1 } }))
    const log = await run()
    expect(target.received).toHaveLength(2)
    const { message, error } = log.lines.at(-1) as { message: string; error: Error }
    expect(message).toBe('handed-off work "POST" of request r1 failed:')
    const [file] = setAside()
    expect(error.message).toBe(`POST ${target.url}: status 503, attempts: 2; set aside as ${spool}/${file}`)
    expect(readdirSync(spool)).toEqual([file])
  })

  it.each([400, 401, 404, 422])('is not tried again after status %d, which would stay the same', async status => {
    await using target = await startTarget(response => {
      response.statusCode = status
      response.end()
    })
    accept(request(target.url))
    const log = await run()
    expect(target.received).toHaveLength(1)
    expect(messageOf(log)).toContain(`status ${status}, attempts: 1`)
  })

  it('is tried again when its connection breaks', async () => {
    await using target = await startTarget(response => {
      if (target.received.length < 2) response.destroy()
      else response.end()
    })
    accept(request(target.url))
    const log = await run()
    expect(log.of('debug').at(-1)).toContain('done: status 200, attempts: 2')
  })

  it('is tried again when the answer is late', async () => {
    await using target = await startTarget(response => {
      if (target.received.length > 1) response.end()
    })
    accept(request(target.url, { dispatcher: { headersTimeout: 50 } }))
    const log = await run()
    expect(log.of('debug').at(-1)).toContain('done: status 200, attempts: 2')
  })

  it('waits no longer than the run, and stays in the spool', async () => {
    await using target = await startTarget(() => {})
    accept(request(target.url), request(target.url, { method: 'PUT' }))
    const log = await run(200)
    expect(target.received).toHaveLength(2)
    expect(log.of('warn')).toEqual([
      'time was up before handed-off work was done: "POST" of request r1, "PUT" of request r1. It stays in the spool for what runs next in this environment, if anything does.',
    ])
    expect(waiting()).toBe(2)
  })

  it('is an error of the log where nothing runs any more', async () => {
    await using target = await startTarget(() => {})
    accept(request(target.url))
    const log = await run(50, true)
    expect(log.of('error')).toEqual([expect.stringContaining('the environment ends before handed-off work was done')])
  })

  it('arrives verbatim, whatever it holds', async () => {
    await using target = await startTarget()
    const text = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.constantFrom(
        '"}\n{"version":1}',
        '$(touch /tmp/x) `id` ; rm -rf /',
        '\r\n\r\nGET / HTTP/1.1\r\n',
        '\0',
        '\u2028',
      ),
    )
    const header = fc.stringMatching(/^[\x21-\x7e\xa1-\xff]+([\x20-\x7e\xa1-\xff]*[\x21-\x7e\xa1-\xff])?$/)
    await fc.assert(
      fc.asyncProperty(text, header, async (body, value) => {
        target.received.length = 0
        const { work } = validateRequest({ url: target.url, body, headers: { 'x-header': value } }, undefined)
        accept(work as RequestWork)
        const log = await run()
        expect(log.of('error')).toEqual([])
        expect(target.received.map(({ body, headers }) => [String(body), headers['x-header']])).toEqual([[body, value]])
      }),
      { numRuns: 60 },
    )
  })
})

describe('a job', () => {
  beforeEach(() => {
    ;(globalThis as any).jobLog = []
  })
  const said = (): any[] => (globalThis as any).jobLog

  it('is called with its payload and its context, and is gone', async () => {
    const job = jobs('export const mail = (...given) => void log.push(given)')
    accept(job('mail', { payload: { a: ['"', null] } }))
    const log = await run()
    expect(said()).toEqual([
      [{ a: ['"', null] }, { idempotencyKey: 'r1-0', awsRequestId: 'r1', attempt: 1, signal: expect.any(AbortSignal) }],
    ])
    expect(log.of('debug')).toEqual(['handed-off work "mail" of request r1 done: attempts: 1'])
    expect(readdirSync(spool)).toEqual([])
  })

  it('is tried again when it fails, and given up after its retries', async () => {
    const job = jobs(`
      export const twice = (_, { attempt }) => { log.push(attempt); if (attempt < 2) throw new Error('once') }
      export const always = async () => { log.push('always'); throw new Error('always') }`)
    accept(job('twice'), job('always', { retry: { maxRetries: 3, minTimeout: 100 } }))
    // A run waits for the first two retries alone.
    await run()
    expect([said().filter(what => what === 'always').length, waiting()]).toEqual([3, 1])
    await new Promise(resolve => setTimeout(resolve, 200)) // the third is due by then
    const log = await run()
    expect(said()).toEqual(expect.arrayContaining([1, 2]))
    expect(said().filter(what => what === 'always')).toHaveLength(4)
    expect(log.lines.filter(({ level }) => level === 'error')).toEqual([
      {
        level: 'error',
        message: 'handed-off work "always" of request r1 failed:',
        error: expect.objectContaining({ message: expect.stringMatching(/^always, attempts: 4; set aside as /) }),
      },
    ])
    expect(waiting()).toBe(0)
  })

  it.each(['nope', 'toString', '__proto__', 'notAFunction', 'constructor'])(
    'is not %s, which is no function of the module',
    async name => {
      const job = jobs('export const mail = () => {}; export const notAFunction = 1')
      accept(job(name))
      const log = await run()
      expect(messageOf(log)).toContain(`to export a function "${name}", got "mail"`)
    },
  )

  it('that does not heed its signal is not waited for', async () => {
    const job = jobs(
      'export const never = (_, { signal }) => new Promise(() => signal.onabort = () => log.push("aborted"))',
    )
    accept(job('never', { timeout: 10, retry: { maxRetries: 0 } }), job('never'))
    const log = await run(400)
    expect(said()).toEqual(['aborted', 'aborted'])
    expect(log.of('error')).toHaveLength(1) // its timeout
    expect(log.of('warn')).toHaveLength(1) // the end of the run
    expect(waiting()).toBe(1)
  })
})

describe('a run', () => {
  it('takes what comes meanwhile', async () => {
    await using target = await startTarget(response => {
      if (target.received.length === 1) accept(request(target.url, { method: 'PUT' }))
      response.end()
    })
    accept(request(target.url))
    await run()
    expect(target.received.map(({ method }) => method)).toEqual(['POST', 'PUT'])
  })

  it('sets aside what cannot be read, and does the rest', async () => {
    await using target = await startTarget()
    accept(request(target.url))
    const [file = ''] = readdirSync(spool)
    const bad = ['', '{"version":1', 'null', '42', '[]', '{"version":2}', '{"version":1,"key":"a"}']
    bad.forEach((text, index) => {
      const piece = parseName(file)
      if (piece) writeFileSync(join(spool, nameOf({ ...piece, token: `bad${index}` })), text, { mode: 0o600 })
    })
    const log = await run()
    expect(target.received).toHaveLength(1)
    expect(log.of('error')).toHaveLength(bad.length)
    expect(log.of('error')[0]).toContain('an entry of the spool cannot be read')
    expect(setAside()).toHaveLength(bad.length)
  })

  it('under way takes a new deadline', async () => {
    await using target = await startTarget(() => {})
    accept(request(target.url))
    const { log, runner } = create()
    const first = runner.run(Date.now() + 60_000)
    await until(() => target.received.length === 1)
    await Promise.all([first, runner.run(Date.now(), true)])
    expect(log.of('error')).toHaveLength(1)
    expect(waiting()).toBe(1)
  })

  it('leaves what is no file of its own, and names it once', async () => {
    accept(request('http://127.0.0.1:1'))
    const [file = ''] = readdirSync(spool)
    rmSync(join(spool, file))
    mkdirSync(join(spool, file))
    writeFileSync(join(spool, 'evil\n.json'), '')
    const { log, runner } = create()
    for (let count = 0; count < 3; count++) await runner.run(Date.now() + 1_000)
    expect(log.of('error').sort()).toEqual([
      `what lies at ${spool}/"${file}" is not run, and left there: it is no file`,
      `what lies at ${spool}/"evil\\n.json" is not run, and left there: no piece of work has such a name`,
    ])
    expect(readdirSync(spool).sort()).toEqual([file, 'evil\n.json'].sort())
  })

  it('out of time lets others have their turn, and counts what it has no time to name', async () => {
    const one = request('http://127.0.0.1:1')
    accept(...Array.from({ length: 300 }, () => one))
    let turns = 0
    const count = () => {
      turns++
      immediate = setImmediate(count)
    }
    let immediate = setImmediate(count)
    const log = await run(-1, true)
    clearImmediate(immediate)
    expect(turns).toBeGreaterThan(10)
    const lines = log.of('error')
    const named = lines.join().split('"POST" of request r1').length - 1
    expect(lines.at(-1)).toContain(` and ${300 - named} more`)
    expect([named < 300, waiting()]).toEqual([true, 300])
  })

  it('that is over when another is asked for is followed by it', async () => {
    await using target = await startTarget()
    accept(request(target.url))
    const { runner } = create()
    const late = runner.run(Date.now() - 1)
    await Promise.all([late, runner.run(Date.now() + 10_000, true)])
    expect([target.received.length, waiting()]).toEqual([1, 0])
  })

  it('does not begin what there is no time for', async () => {
    await using target = await startTarget()
    accept(request(target.url))
    const log = await run(-1)
    expect([target.received.length, log.of('warn').length, waiting()]).toEqual([0, 1, 1])
  })
})

describe('the bounds', () => {
  const pieces = () => readdirSync(spool).flatMap(name => parseName(name) ?? [])
  /** Changes what the name of the only piece says. */
  const rename = (change: Partial<ReturnType<typeof parseName>>) => {
    const [piece] = pieces()
    if (piece) renameSync(join(spool, nameOf(piece)), join(spool, nameOf({ ...piece, ...change })))
  }

  it.each([
    ['seconds', () => '3600'],
    ['a date', () => new Date(Date.now() + 3_600_000).toUTCString()],
  ])('a Retry-After in %s is heeded, and nobody waits for it', async (_what, text) => {
    await using target = await startTarget(response => void response.writeHead(429, { 'Retry-After': text() }).end())
    accept(request(target.url))
    const { runner } = create()
    for (let count = 0; count < 3; count++) await runner.run(Date.now() + 10_000)
    expect(target.received).toHaveLength(1)
    const [piece] = pieces()
    expect(Math.abs((piece?.due ?? 0) - Date.now() - 3_600_000)).toBeLessThan(60_000)
    expect(piece).toMatchObject({ attempts: 1, isTaken: false })
  })

  it('a Retry-After is not heeded where the options say so', async () => {
    await using target = await startTarget(response => {
      if (target.received.length < 2) response.writeHead(429, { 'Retry-After': '3600' })
      response.end()
    })
    accept(request(target.url, { retry: { retryAfter: false } }))
    await run()
    expect([target.received.length, waiting()]).toEqual([2, 0])
  })

  it('attempts are counted across runners', async () => {
    await using target = await startTarget(response => void response.writeHead(503).end())
    accept(request(target.url, { retry: { maxRetries: 6 } }))
    for (let count = 0; count < 1_000 && waiting() > 0; count++) {
      await run()
      await new Promise(resolve => setTimeout(resolve, 1))
    }
    expect(target.received).toHaveLength(7)
    expect(setAside()).toHaveLength(1)
  })

  it('an age ends the attempts, and never comes before the first one', async () => {
    await using target = await startTarget(response => void response.writeHead(503).end())
    acceptWith({ maxAge: 1_000 }, request(target.url))
    rename({ accepted: Date.now() - 60_000 })
    const log = await run()
    expect([target.received.length, waiting()]).toEqual([1, 0])
    expect(messageOf(log)).toContain('status 503, attempts: 1; set aside')
  })

  it('a piece whose runners have died three times is given up, and not run', async () => {
    await using target = await startTarget()
    accept(request(target.url))
    rename({ deaths: 2, attempts: 2, isTaken: true, due: Date.now() })
    const log = await run()
    expect(target.received).toHaveLength(0)
    expect(messageOf(log)).toContain('the process that ran it has died 3 times, attempts: 3; set aside')
  })

  it('what was under way as a process died runs alone, when all else is done', async () => {
    let most = 0
    let open = 0
    const seen: string[] = []
    await using target = await startTarget((response, { headers }) => {
      most = Math.max(most, ++open)
      seen.push(`${headers['idempotency-key']} beside ${open - 1}`)
      setTimeout(() => {
        open--
        response.end()
      }, 20)
    })
    accept(request(target.url))
    rename({ deaths: 1, attempts: 1 })
    acceptWith({ key: 'other' }, ...Array.from({ length: 4 }, () => request(target.url)))
    await run()
    expect(seen.at(-1)).toBe('r1-0 beside 0')
    expect([most > 1, seen.length]).toEqual([true, 5])
  })

  it('a run ends with its budget, and the last one with its deadline', async () => {
    await using target = await startTarget(() => {})
    accept(request(target.url, { retry: { minTimeout: 600_000 } }))
    const { runner, log } = create({ budget: 500 })
    await runner.run(Date.now() + 3_600_000)
    expect(pieces()).toMatchObject([{ attempts: 1 }])
    expect(log.of('warn')).toEqual([expect.stringContaining('time was up before handed-off work was done')])
    await runner.run(Date.now() + 3_600_000) // it waits out its backoff
    expect(target.received).toHaveLength(1)
    await runner.run(Date.now() + 1_000, true) // and none when the environment ends
    expect(target.received).toHaveLength(2)
  })

  it('a receiver that does not answer has two pieces at a time, and the others are put off unbegun', async () => {
    await using target = await startTarget(() => {})
    await using healthy = await startTarget()
    const retry = { minTimeout: 600_000 }
    accept(...Array.from({ length: 20 }, () => request(target.url, { retry })), request(healthy.url))
    const { runner } = create({ budget: 1_000 })
    await runner.run(Date.now() + 60_000)
    expect([target.received.length, healthy.received.length]).toEqual([2, 1])
    await runner.run(Date.now() + 60_000)
    expect(target.received).toHaveLength(2)
    const left = pieces()
    expect(left).toHaveLength(20)
    expect(left.filter(({ attempts }) => attempts === 0)).toHaveLength(18)
    expect(left.every(({ due }) => due > Date.now() + 60_000)).toBe(true)
  })

  it('an entry names no module: without one of its own a job is given up', async () => {
    jobs('export const mail = () => void log.push("ran")')
    const planted = { kind: 'job', job: 'mail', module: jobsModule } as unknown as JobWork
    accept(planted)
    jobsModule = undefined
    const log = await run()
    expect(messageOf(log)).toContain('POST_INVOKE_JOBS names no module of jobs here, attempts: 1')
  })
})
