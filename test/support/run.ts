import { fileURLToPath } from 'node:url'
import type { SandboxEvent } from '../../src/sandbox/events.ts'
import type { InvocationReport, Sandbox, SandboxOptions } from '../../src/sandbox/types.ts'
import type { RuntimeClient } from './runtime-clients.ts'

// The sandbox as users get it: built.
const { createSandbox } = (await import('../../dist/sandbox/index.js' as string)) as {
  createSandbox: (options: SandboxOptions) => Promise<Sandbox>
}

export type CompanionName = 'layer' | 'internal' | 'gate'

/** What a task or a handler of test/fixtures/post-invoke said. `t`: milliseconds on the machine's monotonic clock. */
export type Mark = {
  what: string
  t: number
  name?: string
  id?: string
  outcome?: string
  error?: string
  user?: string
}

/** A sandbox with the fixture handlers, and what happened in it on one clock. */
export type Run = {
  readonly sandbox: Sandbox
  invoke(event: unknown, requestId?: string): Promise<InvocationReport>
  /** Everything marked so far for a request, in order. */
  marks(requestId?: string): Mark[]
  /** When an event of a request happened, on the clock of the marks. */
  time(type: SandboxEvent['type'], requestId: string): number
  /** When a process was told to end, and when it ended, on the clock of the marks. */
  signalTime(process: string): number
  exitTime(process: string): number
  /** Log lines of the package itself that contain all of `parts`; all of them where none are given. */
  logged(...parts: string[]): string[]
}

export const startRun = async (options: {
  client: RuntimeClient
  /** Left to the package where it is not given. */
  companion?: CompanionName
  taskRoot?: string
  handler?: string
  freeze?: boolean
  timeout?: number
  /** As the sandbox's. For what has to happen near the end of a time: a busy machine is late. */
  patience?: number
  environment?: Record<string, string>
  layers?: readonly string[]
  executionEnvironment?: string
}): Promise<Run> => {
  const { client, companion, handler = 'index.handler' } = options
  const times: { event: SandboxEvent; t: number }[] = []
  const sandbox = await createSandbox({
    taskRoot: options.taskRoot ?? fixtures,
    ...client.options(handler),
    layers: options.layers ?? (companion === 'layer' ? [layer] : []),
    // Longer than a test may take: what is only released by the cap fails by its test's timeout.
    timeout: options.timeout ?? 120_000,
    patience: options.patience ?? 0,
    freeze: options.freeze ?? false,
    environment: {
      ...(companion && { POST_INVOKE_COMPANION: companion === 'gate' ? 'embedded' : companion }),
      ...options.environment,
    },
    ...(options.executionEnvironment && { executionEnvironment: options.executionEnvironment }),
    onEvent: event => times.push({ event, t: Number(process.hrtime.bigint()) / 1e6 }),
  })
  const timeOf = (type: 'sigterm' | 'process-exited', process: string): number => {
    const found = times.find(({ event }) => event.type === type && event.process === process)
    if (!found) throw new Error(`no event ${type} of the process ${process}`)
    return found.t
  }
  return {
    sandbox,
    invoke: (event, requestId) => sandbox.invoke(event, requestId === undefined ? {} : { requestId }),
    marks(requestId) {
      const all = sandbox.logs.flatMap(({ text }) => {
        const json = /MARK (\{.*\})/.exec(text)?.[1]
        return json === undefined ? [] : [JSON.parse(json) as Mark]
      })
      return requestId === undefined ? all : all.filter(({ id }) => id === requestId)
    },
    time(type, requestId) {
      const found = times.find(
        ({ event }) => event.type === type && 'requestId' in event && event.requestId === requestId,
      )
      if (!found) throw new Error(`no event ${type} of request ${requestId}`)
      return found.t
    },
    signalTime: process => timeOf('sigterm', process),
    exitTime: process => timeOf('process-exited', process),
    logged: (...parts) =>
      sandbox.logs
        .map(({ text }) => text)
        .filter(text => text.includes('middy-post-invoke: ') && parts.every(part => text.includes(part))),
  }
}

export const layer = fileURLToPath(new URL('../../dist/layer', import.meta.url))

export const fixtures = fileURLToPath(new URL('../fixtures/post-invoke', import.meta.url))

const EVENTUALLY_MS = 30_000

/** Waits for something that other processes bring about, such as a log line on its way. */
export const eventually = async (check: () => boolean | Promise<boolean>, what: string): Promise<void> => {
  const end = performance.now() + EVENTUALLY_MS
  while (!(await check())) {
    if (performance.now() > end) throw new Error(`not so within ${EVENTUALLY_MS} ms: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

export const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
