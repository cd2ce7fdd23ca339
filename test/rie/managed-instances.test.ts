// Managed Instances in the emulator, which has Lambda's own supervisor for them: invocations side by side in worker threads,
// and extensions that may not ask for INVOKE.
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from '@jest/globals'
import { programOf } from '../support/processes.ts'
import { eventually } from '../support/run.ts'
import { type Emulator, type EmulatorOptions, startEmulator } from './rie.ts'

const WORKERS = 2
const ROUNDS = 3
const layer = fileURLToPath(new URL('../../dist/layer', import.meta.url))

const withInstance = async (options: Partial<EmulatorOptions>, use: (emulator: Emulator) => Promise<void>) => {
  const emulator = await startEmulator({ runtimeClient: 'RIC 4', workers: WORKERS, ...options })
  try {
    await use(emulator)
  } finally {
    emulator.kill()
  }
}

/** What the function has logged for each request, and when (milliseconds since the epoch). */
const marks = ({ log }: Emulator) => {
  const requests = new Map<string, { what: string; at: number }[]>()
  for (const [, at, what, id] of log.matchAll(/^\{"timestamp":"([^"]*)".*"MARK (\S+) (\S{36})"\}$/gm)) {
    const of = requests.get(id as string) ?? []
    requests.set(id as string, [...of, { what: what as string, at: Date.parse(at as string) }])
  }
  return requests
}

const answeredAt = ({ log }: Emulator, requestId: string): number => {
  const line = new RegExp(`^time=(\\S+) .*"API request" method=POST url=\\S+/${requestId}/(?:response|error) `, 'm')
  return Date.parse(line.exec(log)?.[1] ?? '')
}

const registrations = ({ log }: Emulator) =>
  Array.from(log.matchAll(/msg="External agent registered" agentName=(\S+) .* events=(\S+)/g), ([, name, events]) => [
    name,
    events,
  ])

test('each task runs after its own answer, and the layer asks for SHUTDOWN alone', () =>
  withInstance({ layer: true }, async emulator => {
    for (let round = 0; round < ROUNDS; round++) {
      // It refuses an invocation that no worker waits for.
      await emulator.asked(WORKERS * (round + 1))
      const [good, bad] = await Promise.all([emulator.invoke(), emulator.invoke({ fails: true })])
      expect(good.body).toEqual({ statusCode: 200, body: 'ok' })
      expect(bad.body).toMatchObject({ errorMessage: 'the handler fails' })
    }
    await eventually(() => emulator.log.split('MARK task-end').length > WORKERS * ROUNDS, 'all tasks have ended')
    await emulator.stop()
    const requests = marks(emulator)
    expect(requests.size).toBe(WORKERS * ROUNDS)
    for (const [requestId, told] of requests) {
      expect(told.map(({ what }) => what)).toEqual(['handler', 'task-start', 'task-end'])
      expect(told[1]?.at).toBeGreaterThanOrEqual(answeredAt(emulator, requestId))
    }
    expect(registrations(emulator)).toEqual([['post-invoke', '[SHUTDOWN]']])
    expect(emulator.inits).toBe(WORKERS)
    expect(emulator.log).not.toContain('WARN_')
    expect(emulator.log).toContain('Agent is registered for the shutdown event')
  }))

test('AWS_LAMBDA_INITIALIZATION_TYPE alone tells the layer', async () => {
  // The emulator gives extensions both variables; Lambda does not everywhere.
  const opt = mkdtempSync(join(tmpdir(), 'post-invoke-managed-'))
  try {
    execFileSync('cp', ['-a', `${layer}/.`, opt])
    renameSync(join(opt, 'extensions'), join(opt, 'real'))
    mkdirSync(join(opt, 'extensions'))
    const lines = ['#!/bin/sh', 'unset AWS_LAMBDA_MAX_CONCURRENCY', 'exec /opt/real/post-invoke', '']
    writeFileSync(join(opt, 'extensions', 'post-invoke'), lines.join('\n'), { mode: 0o755 })
    await withInstance({ opt }, async emulator => {
      const variables = emulator.pids
        .filter(pid => programOf(pid) === 'bash')
        .map(pid => readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0'))
        .map(all => all.filter(line => /^AWS_LAMBDA_(INITIALIZATION_TYPE|MAX_CONCURRENCY)=/.test(line)))
      expect(variables).toEqual([['AWS_LAMBDA_INITIALIZATION_TYPE=lambda-managed-instances']])
      expect(await emulator.invoke()).toMatchObject({ body: { body: 'ok' } })
      expect(registrations(emulator)).toEqual([['post-invoke', '[SHUTDOWN]']])
    })
  } finally {
    rmSync(opt, { recursive: true })
  }
})

test('the hooks of every worker run, with the preload', () =>
  withInstance(
    { handler: 'shutdown.handler', environment: { NODE_OPTIONS: '--import middy-post-invoke/preload' } },
    async emulator => {
      expect(await emulator.invoke()).toMatchObject({ body: { body: 'ok' } })
      await emulator.stop()
      for (const hook of ['first', 'second']) {
        expect(emulator.log.split(`MARK hook ${hook}"`)).toHaveLength(1 + WORKERS)
      }
      expect(emulator.log).toContain('Internal agent registered')
    },
  ))
