import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterEach } from '@jest/globals'
import { createSandbox } from '../../dist/sandbox/index.js'
import type { SandboxEvent } from '../../src/sandbox/events.ts'
import type { Sandbox, SandboxOptions } from '../../src/sandbox/types.ts'

const fixture = (path: string) => fileURLToPath(new URL(`../fixtures/sandbox/${path}`, import.meta.url))

export const taskRoot = fixture('function')
export const rawRuntime = fixture('raw-runtime.mjs')
export const configurableLayer = fixture('layers/configurable')
export const bashLayer = fixture('layers/bash')

/** For the layer of {@link configurableLayer}: what its extension is to do. */
export const extensionVariables = (settings: Readonly<Record<string, unknown>>) => ({
  EXTENSION: JSON.stringify(settings),
})

/** Gives a `start` whose sandboxes are disposed of after each test, whatever became of it. */
export const useSandboxes = () => {
  const started: Sandbox[] = []
  afterEach(async () => {
    await Promise.all(started.splice(0).map(sandbox => sandbox[Symbol.asyncDispose]()))
  })
  return async (options: Partial<SandboxOptions>): Promise<Sandbox> => {
    const sandbox = await createSandbox({ taskRoot, handler: 'index.handler', timeout: 10_000, ...options })
    started.push(sandbox)
    return sandbox
  }
}

export const types = (sandbox: Sandbox) => sandbox.events.map(({ type }) => type)

/** Only the given types, with the name of the process or extension where there is one: `extension-next:name`. */
export const outline = (sandbox: Sandbox, ...wanted: readonly SandboxEvent['type'][]) =>
  sandbox.events
    .filter(({ type }) => wanted.includes(type))
    .map(event => [event.type, 'name' in event ? event.name : 'process' in event ? event.process : ''])
    .map(([type, name]) => (name ? `${type}:${name}` : type))

export const lines = (sandbox: Sandbox, source: string) =>
  sandbox.logs.filter(line => line.source === source).map(({ text }) => text)

/** Waits for a condition that nobody announces. */
export const eventually = async (condition: () => boolean) => {
  for (let attempt = 0; attempt < 500; attempt += 1) {
    if (condition()) return
    await new Promise(resolve => setTimeout(resolve, 10))
  }
  throw new Error('Waited 5 s for a condition that never held')
}

/** A process that has ended counts as dead even if nobody has asked for its exit code yet. */
export const isAlive = (pid: number) => {
  try {
    process.kill(pid, 0)
    return process.platform !== 'linux' || !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'))
  } catch {
    return false
  }
}
