// What handed-off work may cost whom, in a sandbox with one runtime client and one companion: a dead receiver, a job that
// kills, work that somebody else has planted, and secrets in the log.

import { spawnSync } from 'node:child_process'
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from '@jest/globals'
import { type HandOffRun, plant, startHandOff, waiting } from './hand-off-suite.ts'
import { type CompanionName, eventually } from './run.ts'
import type { RuntimeClient } from './runtime-clients.ts'
import { startTarget } from './target.ts'

const TIMEOUT_MS = 2_500

/** How many invocations follow. */
const FOLLOWING = 20

const said: string[] = []

export const describeHandOffBounds = ({
  client,
  companion,
}: {
  client: RuntimeClient
  companion: CompanionName
}): void => {
  const name = `${client.name}, ${companion}`
  const start = (options: Partial<Parameters<typeof startHandOff>[0]> = {}) =>
    startHandOff({ client, companion, freeze: true, timeout: TIMEOUT_MS, ...options })
  /** Figures are for who reads them. What has to hold is counted: a busy machine is slow at everything. */
  const say = (text: string) => void said.push(`${name}: ${text}`)
  afterAll(() => void process.stdout.write(`${said.splice(0).join('\n')}\n`))

  /** The following invocations, which hand nothing off: milliseconds from the response to the release. */
  const follow = async (run: HandOffRun, count = FOLLOWING) => {
    const times: number[] = []
    for (let index = 0; index < count; index++) {
      const report = await run.invoke({})
      expect(report).toMatchObject({ status: 'success', timedOut: false })
      times.push(run.time('released', report.requestId) - run.time('response', report.requestId))
    }
    return times.sort((a, b) => a - b)[Math.floor(count / 2)] as number
  }

  describe(`the bounds of handed-off work: ${name}`, () => {
    const never = () => {}
    const dead: [string, Parameters<typeof startHandOff>[0]['answer']][] = [
      ['never answers', never],
      [
        'asks for an hour',
        response => {
          response.writeHead(429, { 'Retry-After': '3600' })
          response.end()
        },
      ],
      ['fails', response => void response.writeHead(503).end()],
    ]
    it.each(dead)('a receiver that %s does not hold the invocations that follow', async (what, answer) => {
      await using run = await start({ answer: answer ?? never })
      await run.invoke({ ownKeys: true, work: [['note']] }) // loads what runs it
      const without = await follow(run)
      const first = await run.invoke({ ownKeys: true, work: [[{ url: run.target.url }]] })
      expect(first).toMatchObject({ status: 'success', timedOut: false })
      const held = run.time('released', first.requestId) - run.time('response', first.requestId)
      const before = run.target.received.length
      const after = await follow(run)
      const tries = run.target.received.length - before
      say(
        `a receiver that ${what}: held for ${Math.round(held)} ms, then a median of ${after.toFixed(1)} ms over ${FOLLOWING} invocations (${without.toFixed(1)} without), ${tries} of them with a further attempt`,
      )
      // The budget is a quarter of what is left, and never all of it.
      expect(held).toBeLessThan(TIMEOUT_MS - 500)
      expect(tries).toBeLessThan(FOLLOWING / 2)
      expect(after - without).toBeLessThan(TIMEOUT_MS / 10)
      if (what === 'asks for an hour') expect(run.target.received).toHaveLength(1)
    })

    it('without retries sends one request, however many invocations follow', async () => {
      await using run = await start({ answer: never })
      const options = { retry: { maxRetries: 0 } }
      const { requestId } = await run.invoke({ ownKeys: true, work: [[{ url: run.target.url }, options]] })
      await follow(run)
      say(`maxRetries 0: ${run.target.received.length} requests sent in ${FOLLOWING + 1} invocations`)
      expect(run.target.received).toHaveLength(1)
      expect(run.logged(`of request ${requestId} failed:`, 'attempts: 1; set aside as')).toHaveLength(1)
      expect(readdirSync(run.spool)).toEqual([expect.stringMatching(/^failed-/)])
    })

    it('a dead receiver does not keep a healthy one from being reached', async () => {
      await using run = await start({ answer: never })
      await using healthy = await startTarget()
      const toDead = Array.from({ length: 8 }, () => [{ url: run.target.url }])
      await run.invoke({ ownKeys: true, work: [...toDead, [{ url: healthy.url }]] })
      say(`8 pieces to a dead receiver, then 1 to a healthy one: reached ${healthy.received.length} times in the first`)
      expect(healthy.received).toHaveLength(1)
    })

    it('a bound on age holds, and what is past it is named and set aside', async () => {
      await using run = await start({ answer: response => void response.writeHead(503).end() })
      const options = { maxAge: 1, retry: { minTimeout: 1 } }
      await run.invoke({ ownKeys: true, work: [[{ url: run.target.url }, options]] })
      await eventually(() => run.logged('status 503, attempts:', 'set aside as').length === 1, 'it is given up')
      expect(waiting(run)).toEqual([])
    })

    it.each(['exits', 'fills', 'uncaught', 'throwsLate', 'rejectsLate'])(
      'a job that %s costs no answer, and no environment',
      async job => {
        await using run = await start({ timeout: 20_000 })
        for (let count = 0; count < 3; count++) {
          const report = await run.invoke({ ownKeys: true, work: [[job, null, { retry: { maxRetries: 0 } }]] })
          expect(report).toMatchObject({ kind: 'response', status: 'success', timedOut: false })
        }
        // Also with nothing but that in it, the function's process and the companion live.
        const { requestId } = await run.invoke({ ownKeys: true, work: [['note']] })
        const done = () => run.marks(requestId).filter(({ what }) => what === 'job')
        if (job.endsWith('Late')) {
          // What fails late ends the thread, and the job that is in it by then is begun again.
          await eventually(async () => {
            expect(await run.invoke({})).toMatchObject({ kind: 'response', status: 'success', timedOut: false })
            return done().length > 0
          }, 'the next job is done')
        } else {
          expect(done()).toHaveLength(1)
        }
        expect(run.sandbox.events.filter(({ type }) => type === 'reset')).toEqual([])
      },
    )

    it('a job that kills who runs it is set aside after a few such deaths, and named; others are done', async () => {
      await using run = await start()
      const first = await run.invoke({ ownKeys: true, work: [['kills'], ['note'], ['note', { second: true }]] })
      await eventually(async () => {
        await run.invoke({})
        await new Promise(resolve => setTimeout(resolve, 200))
        return waiting(run).length === 0
      }, 'it is set aside')
      const deaths = run.marks(first.requestId).filter(({ what }) => what === 'kills').length
      const resets = run.sandbox.events.filter(({ type }) => type === 'reset').length
      say(`a job that kills who runs it: ${deaths} deaths, ${resets} resets`)
      expect(deaths).toBeLessThanOrEqual(3)
      expect(run.logged('"kills"', 'the process that ran it has died')).toHaveLength(1)
      expect(readdirSync(run.spool)).toEqual([expect.stringMatching(/^failed-/)])
      expect(run.marks(first.requestId).filter(({ what }) => what === 'job').length).toBeGreaterThanOrEqual(2)
      expect(await run.invoke({})).toMatchObject({ status: 'success', timedOut: false })
    }, 90_000)

    describe('planted work', () => {
      /** A module that says when it has run, and an entry that names it. */
      const plantModule = (folder: string) => {
        const module = join(folder, 'planted.mjs')
        writeFileSync(module, `export const note = () => console.log('PLANTED WORK RAN')`)
        const base = { version: 1, key: 'k', id: 'i', requestId: 'r', name: 'planted', taskRoot: folder }
        return JSON.stringify({ ...base, work: { kind: 'job', job: 'note', module } })
      }
      const ran = (run: HandOffRun) => run.sandbox.logs.filter(({ text }) => text.includes('PLANTED WORK RAN'))

      const places: [string, (spool: string, text: string, folder: string) => void][] = [
        ['in the spool itself', (spool, text) => void plant(spool, text)],
        [
          'under the name that an older version gave it',
          (spool, text) => {
            mkdirSync(spool, { mode: 0o700 })
            writeFileSync(`${spool}/000000000-000000-1-a.json`, text, { mode: 0o600 })
          },
        ],
        [
          'as a file that an archive may leave',
          (spool, text) => {
            plant(spool, text)
            for (const name of readdirSync(spool)) chmodSync(join(spool, name), 0o644)
          },
        ],
        [
          'in a folder that all may write to',
          (spool, text) => {
            plant(spool, text)
            chmodSync(spool, 0o777)
          },
        ],
        [
          'behind a link',
          (spool, text, folder) => {
            plant(join(folder, 'elsewhere'), text)
            symlinkSync(join(folder, 'elsewhere'), spool)
          },
        ],
      ]
      if (process.getuid?.() === 0) {
        places.push([
          'in a folder of another user',
          (spool, text) => {
            plant(spool, text)
            chownSync(spool, 12_345, 12_345)
          },
        ])
      }
      it.each(places)('is not what it says: %s', async (_where, make) => {
        const folder = mkdtempSync(join(tmpdir(), 'post-invoke-planted-'))
        const spool = join(folder, 'spool')
        try {
          make(spool, plantModule(folder), folder)
          await using run = await start({ environment: { POST_INVOKE_SPOOL: spool } })
          for (let count = 0; count < 2; count++) {
            expect(await run.invoke({})).toMatchObject({ status: 'success', timedOut: false })
          }
          await run.sandbox.shutdown()
          expect(ran(run)).toEqual([])
        } finally {
          rmSync(folder, { recursive: true, force: true })
        }
      })

      it('is not looked at in a function that hands nothing off', async () => {
        await using target = await startTarget()
        await using run = await start({ handler: 'plain.handler', environment: { POST_INVOKE_JOBS: '' } })
        const work = { kind: 'request', url: target.url, method: 'POST', headers: [], body: 'x' }
        plant(run.spool, JSON.stringify({ version: 1, key: 'k', id: 'i', requestId: 'r', name: 'planted', work }))
        for (let count = 0; count < 2; count++) await run.invoke({})
        await run.sandbox.shutdown()
        expect(target.received).toEqual([])
      })

      it('is no file that blocks: a FIFO is left, and named once', async () => {
        await using run = await start()
        mkdirSync(run.spool, { mode: 0o700 })
        const names = ['a.json', `${Date.now()}-${Date.now()}-00-00-planted-00000000.json`]
        for (const name of names) spawnSync('mkfifo', ['-m', '600', join(run.spool, name)])
        for (let count = 0; count < 3; count++) {
          const report = await run.invoke({ ownKeys: true, work: [['note']] })
          expect(report).toMatchObject({ status: 'success', timedOut: false })
          expect(run.marks(report.requestId).filter(({ what }) => what === 'job')).toHaveLength(1)
        }
        expect(readdirSync(run.spool).sort()).toEqual(names.sort())
        for (const name of names) expect(run.logged('is not run, and left there', name)).toHaveLength(1)
      })
    })

    it.each(['Text', 'JSON'])('no log line holds a header, a path or a body (%s)', async format => {
      const secrets = ['secret-cookie', 'secret-token', 'secret-path', 'secret-body', 'secret-answer', 'secret-place']
      let count = 0
      await using run = await start({
        environment: { AWS_LAMBDA_LOG_FORMAT: format, POST_INVOKE_LOG_LEVEL: 'DEBUG', AWS_LAMBDA_LOG_LEVEL: 'DEBUG' },
        answer(response) {
          count++
          const headers = { 'Set-Cookie': 'a=secret-cookie', Location: '/secret-place' }
          response.writeHead([500, 302, 404, 200][count % 4] as number, headers)
          response.write('secret-answer')
          if (count % 4 === 3) response.destroy()
          else response.end()
        },
      })
      // One that is no server of HTTP at all.
      const odd = createServer(socket => void socket.end('HTTP/9 secret-answer\r\nx: secret-cookie\r\n\r\n'))
      await new Promise<void>(resolve => odd.listen(0, '127.0.0.1', resolve))
      const request = (url: string) => [
        {
          url: `${url}/secret-path?token=secret-token`,
          body: 'secret-body',
          headers: { Authorization: 'Bearer secret-token' },
        },
        { retry: { maxRetries: 1, minTimeout: 1 } },
      ]
      try {
        const oddUrl = `http://127.0.0.1:${(odd.address() as AddressInfo).port}`
        for (const url of [
          run.target.url,
          run.target.url,
          run.target.url,
          run.target.url,
          oddUrl,
          'http://127.0.0.1:1',
        ])
          await run.invoke({ ownKeys: true, work: [request(url)] })
        await run.invoke({})
      } finally {
        odd.close()
      }
      expect(run.target.received.length).toBeGreaterThan(3)
      expect(run.logged('failed').length).toBeGreaterThan(3)
      const all = run.sandbox.logs.map(({ text }) => text).filter(text => secrets.some(secret => text.includes(secret)))
      expect(all).toEqual([])
    })

    it('environments that share a spool run each piece once', async () => {
      await using run = await start({ timeout: 30_000 })
      await using other = await start({ timeout: 30_000, environment: { POST_INVOKE_SPOOL: run.spool } })
      await other.invoke({ ownKeys: true, work: [['note']] })
      const sent = run.sandbox.send({ ownKeys: true, work: [['sleep', { ms: 900 }]] })
      const begun = () => [...run.marks(sent.requestId), ...other.marks(sent.requestId)]
      await eventually(() => begun().some(({ what }) => what === 'sleep'), 'the job has begun')
      let isReleased = false
      sent.released.then(() => {
        isReleased = true
      })
      while (!isReleased) await other.invoke({})
      expect(begun().map(({ what }) => what)).toEqual(['sleep', 'job'])
      expect(waiting(run)).toEqual([])
    })

    it('a redirect is a failure, unless the options say that it is followed', async () => {
      await using other = await startTarget()
      await using run = await start({
        answer: response => void response.writeHead(302, { Location: other.url }).end(),
      })
      await run.invoke({ ownKeys: true, work: [[{ url: run.target.url }]] })
      expect(other.received).toHaveLength(0)
      expect(run.logged('status 302, after 0 redirects that it may follow, attempts: 1')).toHaveLength(1)
      await run.invoke({ ownKeys: true, work: [[{ url: run.target.url }, { maxRedirections: 1 }]] })
      expect(other.received).toHaveLength(1)
      await run.invoke({ ownKeys: true, work: [[{ url: run.target.url }, { maxRedirections: 1 }]] })
      expect(run.logged('failed:')).toHaveLength(1)
    })

    it.each(['.', '..', '../hand-off/../post-invoke/index.mjs', '/etc/passwd', 'none.mjs'])(
      'init fails where POST_INVOKE_JOBS is %s',
      async path => {
        await expect(start({ environment: { POST_INVOKE_JOBS: path } }).then(run => run.invoke({}))).rejects.toThrow(
          /Expected the variable POST_INVOKE_JOBS to be the path of a file inside/,
        )
      },
    )

    it('a key is the same when the work is handed off again in another order, and may be the caller’s', async () => {
      await using run = await start()
      const work = [[{ url: run.target.url, body: 'a' }], [{ url: run.target.url, body: 'b' }]]
      await run.invoke({ ownKeys: true, work }, 'same-id')
      await run.invoke({ ownKeys: true, work: work.toReversed() }, 'same-id')
      await run.invoke({ ownKeys: true, work: [[{ url: run.target.url }, { idempotencyKey: 'order-17' }]] })
      const keys = [...run.target.keys()]
      expect(keys.map(([, count]) => count)).toEqual([2, 2, 1])
      expect(keys[2]?.[0]).toBe('order-17')
    })
  })
}
