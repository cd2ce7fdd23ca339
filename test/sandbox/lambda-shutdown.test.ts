import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from '@jest/globals'
import { runtimeClients } from '../support/runtime-clients.ts'
import {
  bashLayer,
  configurableLayer,
  eventually,
  extensionVariables,
  isAlive,
  lines,
  outline,
  useSandboxes,
} from '../support/sandboxes.ts'

const start = useSandboxes()

const SIGNALS = ['sigterm', 'sigkill', 'shutdown-event', 'process-exited'] as const

describe.each(runtimeClients)('Shutdown with the $name', client => {
  test('without extensions is SIGKILL at once', async () => {
    const sandbox = await start(client.options('sigterm.handler'))
    await sandbox.invoke({})
    const report = await sandbox.shutdown()
    expect(outline(sandbox, ...SIGNALS)).toEqual(['sigkill:function', 'process-exited:function'])
    expect(report).toMatchObject({
      reason: 'SPINDOWN',
      processes: [{ process: 'function', signal: 'SIGKILL', killed: true }],
    })
    expect(lines(sandbox, 'function').join()).not.toContain('SIGTERM')
  })

  test('with an internal extension is SIGTERM', async () => {
    const sandbox = await start(client.options('internal.handler'))
    await sandbox.invoke({})
    const report = await sandbox.shutdown()
    expect(outline(sandbox, ...SIGNALS)).toEqual(['sigterm:function', 'process-exited:function'])
    expect(report.processes).toMatchObject([{ process: 'function', killed: false }])
    expect(lines(sandbox, 'function').join()).toContain('SIGTERM')
  })

  test('with an internal extension ends in SIGKILL when SIGTERM is ignored', async () => {
    const sandbox = await start({ ...client.options('internal.handler'), environment: { IGNORE_SIGTERM: '1' } })
    const report = await sandbox.shutdown()
    expect(outline(sandbox, ...SIGNALS)).toEqual(['sigterm:function', 'sigkill:function', 'process-exited:function'])
    expect(report.processes).toMatchObject([{ process: 'function', killed: true }])
  })

  test('with external extensions is SIGTERM to the function, then SHUTDOWN to them', async () => {
    const sandbox = await start({
      ...client.options('sigterm.handler'),
      layers: [configurableLayer],
      environment: { ...extensionVariables({ shutdownMs: 500 }), IGNORE_SIGTERM: '1' },
    })
    await sandbox.invoke({})
    const report = await sandbox.shutdown()
    expect(outline(sandbox, ...SIGNALS)).toEqual([
      'sigterm:function',
      'sigkill:function',
      'process-exited:function',
      'shutdown-event:configurable',
      'process-exited:configurable',
    ])
    expect(report.processes).toMatchObject([
      { process: 'function', killed: true },
      { process: 'configurable', exitCode: 0, killed: false },
    ])
    expect(lines(sandbox, 'configurable').slice(-2)).toEqual(['SHUTDOWN SPINDOWN', 'leaving'])
    expect(lines(sandbox, 'configurable')).not.toContain('SIGTERM')
  })
})

test('an extension that did not ask for SHUTDOWN is killed, one that ignores it too', async () => {
  const sandbox = await start({
    layers: [configurableLayer, bashLayer],
    environment: extensionVariables({ ignoresShutdown: true }),
  })
  const other = await start({ layers: [configurableLayer], environment: extensionVariables({ events: ['INVOKE'] }) })
  await Promise.all([sandbox.shutdown(), other.shutdown()])
  expect(outline(sandbox, 'sigkill')).toEqual(['sigkill:configurable'])
  expect(lines(sandbox, 'configurable')).toContain('SHUTDOWN SPINDOWN')
  expect(outline(other, ...SIGNALS)).toEqual([
    'sigterm:function',
    'process-exited:function',
    'sigkill:configurable',
    'process-exited:configurable',
  ])
})

test('SHUTDOWN names its reason and a deadline', async () => {
  const sandbox = await start({ layers: [bashLayer] })
  const before = Date.now()
  await sandbox.shutdown()
  const { deadlineMs, ...event } = JSON.parse(lines(sandbox, 'bash-extension').at(-1) ?? '')
  expect(event).toEqual({ eventType: 'SHUTDOWN', shutdownReason: 'SPINDOWN' })
  expect(deadlineMs).toBeGreaterThanOrEqual(before + 2_000)
})

test('patience comes on top of every limit, and of what SHUTDOWN is told', async () => {
  const sandbox = await start({
    layers: [bashLayer],
    timeout: 100,
    patience: 2_000,
    environment: { IGNORE_SIGTERM: '1' },
  })
  const before = Date.now()
  const report = await sandbox.invoke({ sleepMs: 60_000 })
  expect(report).toMatchObject({ status: 'timeout', timedOut: true })
  expect(report.at).toBeGreaterThan(2_000)
  const deadlines = sandbox.events.flatMap(event => (event.type === 'invoke' ? [event.deadlineMs] : []))
  expect(deadlines[0]).toBeLessThan(before + 2_000)
  // The environment that timed out has ended: after the patience of the invocation, with that of the shutdown.
  const { deadlineMs } = JSON.parse(lines(sandbox, 'bash-extension').at(-1) ?? '')
  expect(deadlineMs).toBeGreaterThanOrEqual(before + 2_000 + 2_000 + 2_000)
})

test('waits for invocations under way, and refuses new ones', async () => {
  const sandbox = await start({})
  const sent = [1, 2].map(n => sandbox.send({ n, sleepMs: 20 }))
  const shutdown = sandbox.shutdown()
  await expect(sandbox.invoke({})).rejects.toMatchObject({ code: 'SANDBOX_CLOSED' })
  expect(() => sandbox.send({})).toThrow('The sandbox has been shut down')
  await shutdown
  const reports = await Promise.all(sent.map(({ released }) => released))
  expect(reports.map(({ status }) => status)).toEqual(['success', 'success'])
  expect(await sandbox.shutdown()).toBe(await shutdown)
})

test('ends what the function left behind', async () => {
  const sandbox = await start({ handler: 'index.withChild' })
  const { pid } = (await sandbox.invoke({})).body<{ pid: number }>()
  expect(isAlive(pid)).toBe(true)
  await sandbox.shutdown()
  if (process.platform === 'linux') expect(isAlive(pid)).toBe(false)
  else process.kill(pid, 'SIGKILL')
})

test('disposing kills everything at once, and settles what was under way', async () => {
  const sandbox = await start({ layers: [configurableLayer], environment: extensionVariables({}) })
  const pids = [sandbox.runtimePid ?? 0, sandbox.extensionPids.configurable ?? 0]
  const sent = [sandbox.send({ sleepMs: 60_000 }), sandbox.send({})]
  await eventually(() => outline(sandbox, 'invoke').length === 1)
  await sandbox[Symbol.asyncDispose]()

  const reports = await Promise.all(sent.map(({ released }) => released))
  expect(reports.map(({ status, errorType }) => [status, errorType])).toEqual([
    ['crash', 'Sandbox.Disposed'],
    ['crash', 'Sandbox.Disposed'],
  ])
  expect(outline(sandbox, 'shutdown-started', 'sigterm', 'shutdown-event')).toEqual([])
  expect(pids.map(isAlive)).toEqual([false, false])
  await sandbox[Symbol.asyncDispose]()
})

test.each(['exit', 'SIGTERM', 'SIGKILL'])('nothing outlives its host, frozen or not: %s', async way => {
  const script = fileURLToPath(new URL('../fixtures/sandbox/host.mjs', import.meta.url))
  const host = spawn(process.execPath, [script, way], { stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  host.stdout.setEncoding('utf8').on('data', chunk => {
    output += chunk
  })
  await new Promise(resolve => host.once('close', resolve))
  const pids: number[] = JSON.parse(output)
  expect(pids).toHaveLength(2)
  await eventually(() => !pids.some(isAlive))
})

test('a host has nothing to wait for after shutdown', async () => {
  const script = fileURLToPath(new URL('../fixtures/sandbox/host.mjs', import.meta.url))
  const host = spawn(process.execPath, [script, 'shutdown'], { stdio: ['ignore', 'pipe', 'inherit'] })
  expect(await new Promise(resolve => host.once('close', resolve))).toBe(0)
})
