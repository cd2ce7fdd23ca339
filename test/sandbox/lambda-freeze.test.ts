import { readFileSync } from 'node:fs'
import { describe, expect, test } from '@jest/globals'
import { runtimeClients } from '../support/runtime-clients.ts'
import {
  configurableLayer,
  eventually,
  extensionVariables,
  isAlive,
  outline,
  useSandboxes,
} from '../support/sandboxes.ts'

const start = useSandboxes()

/** `T` is stopped. https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html */
const stateOf = (pid: number) => readFileSync(`/proc/${pid}/stat`, 'latin1').replace(/^.*\) (.).*$/s, '$1')

const pause = () => new Promise(resolve => setTimeout(resolve, 1_000))

describe.each(runtimeClients)('with the $name', client => {
  test('a frozen environment does nothing between invocations', async () => {
    const sandbox = await start({
      ...client.options('index.handler'),
      layers: [configurableLayer],
      environment: extensionVariables({}),
      freeze: true,
    })
    const { count: before } = (await sandbox.invoke({})).body()
    await pause()
    const { count: after } = (await sandbox.invoke({})).body()

    // The counter ticks every 5 ms: of the pause's 200 ticks there are none, of the invocations' a few.
    expect(after - before).toBeLessThan(150)
    expect(outline(sandbox, 'init-ended', 'frozen', 'thawed', 'invoke', 'released')).toEqual([
      'init-ended',
      ...['frozen', 'thawed', 'invoke', 'released'],
      ...['frozen', 'thawed', 'invoke', 'released'],
      'frozen',
    ])
  })

  test('without freeze it goes on', async () => {
    const sandbox = await start(client.options('index.handler'))
    const { count: before } = (await sandbox.invoke({})).body()
    await pause()
    const { count: after } = (await sandbox.invoke({})).body()
    expect(after - before).toBeGreaterThan(20)
    expect(outline(sandbox, 'frozen', 'thawed')).toEqual([])
  })

  test('a frozen process can be killed, and shutdown wakes the others', async () => {
    const sandbox = await start({
      ...client.options('index.handler'),
      layers: [configurableLayer],
      environment: extensionVariables({}),
      freeze: true,
    })
    await sandbox.invoke({})
    const report = await sandbox.shutdown()
    expect(report.processes).toMatchObject([
      { process: 'function', killed: false },
      { process: 'configurable', exitCode: 0 },
    ])
  })
})

const onLinux = process.platform === 'linux' ? test : test.skip

onLinux('every process is stopped, also a child that left the process group', async () => {
  const sandbox = await start({
    handler: 'index.withChild',
    layers: [configurableLayer],
    environment: extensionVariables({}),
    freeze: true,
  })
  const { pid } = (await sandbox.invoke({})).body<{ pid: number }>()
  const pids = [pid, sandbox.runtimePid ?? 0, sandbox.extensionPids.configurable ?? 0]
  await eventually(() => pids.every(one => stateOf(one) === 'T'))
  await sandbox[Symbol.asyncDispose]()
  expect(pids.map(isAlive)).toEqual([false, false, false])
})
