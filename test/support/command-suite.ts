// POST_INVOKE_COMMAND in a sandbox: a command after each invocation, of functions with the middleware and without it.
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from '@jest/globals'
import { handOffFixtures } from './hand-off-suite.ts'
import { type Run, startRun } from './run.ts'
import type { RuntimeClient } from './runtime-clients.ts'

const COMMAND = 'echo "RAN $POST_INVOKE_REQUEST_ID $POST_INVOKE_OUTCOME"'

const ran = (run: Run) =>
  run.sandbox.logs.flatMap(({ text, source }) =>
    source === 'post-invoke' && text.startsWith('RAN ') ? [text.slice(4)] : [],
  )

export const describeCommand = (client: RuntimeClient): void => {
  const start = (environment: Record<string, string>, handler = 'plain.handler', timeout = 10_000, patience = 0) =>
    startRun({
      client,
      companion: 'layer',
      taskRoot: handOffFixtures,
      handler,
      timeout,
      patience,
      freeze: true,
      environment: { POST_INVOKE_COMMAND: COMMAND, ...environment },
    })

  describe(`a command: ${client.name}`, () => {
    it.each([
      ['plain.handler', 'without the middleware'],
      ['index.handler', 'with it'],
    ])('runs after the response or the error, and holds the environment until it has ended (%s, %s)', async handler => {
      const run = await start({ POST_INVOKE_COMMAND: `sleep 0.1; ${COMMAND}` }, handler)
      await using _sandbox = run.sandbox
      for (const throws of [false, true, false]) {
        const { requestId, status } = await run.invoke({ throws })
        expect(status).toBe(throws ? 'error' : 'success')
        expect(ran(run).at(-1)).toBe(`${requestId} ${throws ? 'error' : 'response'}`)
        const line = run.sandbox.logs.find(({ text }) => text === `RAN ${requestId} ${throws ? 'error' : 'response'}`)
        const response = run.sandbox.events.find(event => event.type === 'response' && event.requestId === requestId)
        const released = run.sandbox.events.find(event => event.type === 'released' && event.requestId === requestId)
        expect(line?.at).toBeGreaterThan(response?.at as number)
        expect(line?.at).toBeLessThan(released?.at as number)
      }
      expect(run.logged('ERROR')).toEqual([])
    })

    it.each([
      ['response', ['response']],
      ['error', ['error']],
      ['Error, response', ['response', 'error']],
    ])('runs after what POST_INVOKE_COMMAND_ON=%s says', async (on, outcomes) => {
      const run = await start({ POST_INVOKE_COMMAND_ON: on })
      await using _sandbox = run.sandbox
      await run.invoke({})
      await run.invoke({ throws: true })
      expect(ran(run).map(line => line.split(' ')[1])).toEqual(outcomes)
    })

    it('runs after the tasks, and in the shell that is named', async () => {
      const run = await start(
        { POST_INVOKE_COMMAND: `${COMMAND}; echo "RAN \${BASH_VERSION:+bash}"`, POST_INVOKE_SHELL: '/bin/bash' },
        'index.handler',
      )
      await using _sandbox = run.sandbox
      const { requestId } = await run.invoke({ sleeps: 100 })
      expect(ran(run)).toEqual([`${requestId} response`, 'bash'])
      const at = (part: string) => run.sandbox.logs.find(({ text }) => text.includes(part))?.at as number
      expect(at('RAN ')).toBeGreaterThan(at('"slept"'))
    })

    it('that does not end is ended before the deadline, with all that it has started, and named', async () => {
      const run = await start(
        { POST_INVOKE_COMMAND: 'trap "" TERM; sleep 30 & sleep 30' },
        'plain.handler',
        1_500,
        5_000,
      )
      await using _sandbox = run.sandbox
      const { requestId, timedOut } = await run.invoke({})
      expect(timedOut).toBe(false)
      expect(run.logged(`POST_INVOKE_COMMAND after request ${requestId} was ended: time was up`)).toHaveLength(1)
    })

    it('that fails, or cannot be started, harms nothing but itself', async () => {
      for (const environment of [{ POST_INVOKE_COMMAND: 'exit 3' }, { POST_INVOKE_SHELL: '/nowhere/sh' }]) {
        const run = await start(environment)
        await using _sandbox = run.sandbox
        expect((await run.invoke({})).status).toBe('success')
        expect((await run.invoke({})).status).toBe('success')
        expect(run.logged('POST_INVOKE_COMMAND after request')).toHaveLength(2)
      }
    })

    it('runs at the end of the environment, after a timeout and after a crash', async () => {
      for (const event of [{ hangs: true }, { dies: 'same tick' }]) {
        const run = await start({}, 'index.handler', 2_000, 5_000)
        await using _sandbox = run.sandbox
        // What runs the command has been loaded then, and has heard of an end: on a busy machine that takes its time.
        await run.invoke({})
        const { requestId } = await run.invoke(event)
        await run.sandbox.shutdown()
        expect(run.logged('ERROR')).toEqual([])
        expect(ran(run).filter(line => line.endsWith('error'))).toEqual([`${requestId} error`])
      }
    })

    it('gets no part of the event: ids and payloads full of tricks stay data', async () => {
      const mark = join(tmpdir(), `post-invoke-injected-${process.pid}`)
      const out = join(tmpdir(), `post-invoke-ids-${process.pid}`)
      const tricks = [
        `$(touch ${mark})`,
        `\`touch ${mark}\``,
        `"; touch ${mark}; "`,
        `' || touch ${mark} #`,
        `a && touch ${mark}`,
        '$IFS;$(:)',
        '-n *',
      ]
      const run = await start({ POST_INVOKE_COMMAND: `printf '%s\\n' "$POST_INVOKE_REQUEST_ID" >> ${out}` })
      await using _sandbox = run.sandbox
      try {
        for (const trick of tricks) await run.invoke({ trick, nested: { [trick]: trick } }, trick)
        expect(readFileSync(out, 'utf8')).toBe(`${tricks.join('\n')}\n`)
        expect(existsSync(mark)).toBe(false)
      } finally {
        for (const file of [mark, out]) rmSync(file, { force: true })
      }
    })
  })
}
