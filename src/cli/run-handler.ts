// Runs a staged handler in the sandbox, from its init to its shutdown.
import { createSandbox, type InvocationReport, type Sandbox, SandboxError } from '../sandbox/index.ts'
import { InitFailed, Interrupted } from './errors.ts'
import { createMoments, type Moment } from './moments.ts'
import { layerFolder } from './package-files.ts'
import { type InvocationRun, type Run, summarize } from './run.ts'
import type { Runtime } from './runtime.ts'
import type { StagedHandler } from './stage.ts'

export type RunHandlerOptions = {
  readonly layer?: boolean
  readonly timeout: number
  readonly freeze?: boolean
  readonly count: number
  readonly variables: Readonly<Record<string, string>>
  readonly runtime: Runtime
  /** Whether all that the function writes comes by one stream, and so in the order in which it wrote it. */
  readonly oneStream?: boolean
  /** Called with each moment, in order. */
  onMoment?(moment: Moment): void
  /** Whether a person sees the moments as they come, so that an error need not repeat what was logged. */
  readonly isWatched?: boolean
  onInvocation?(run: InvocationRun): void
}

/**
 * Runs it as often as it is asked to, and ends its environment. What it staged is removed.
 *
 * @throws InitFailed when its Init fails.
 */
export const runHandler = async (staged: StagedHandler, event: unknown, options: RunHandlerOptions): Promise<Run> => {
  const { variables, runtime } = options
  const moments = createMoments(options.onMoment)
  const reports: InvocationReport[] = []
  let sandbox: Sandbox | undefined
  const interrupts = watchInterrupts(() => sandbox?.[Symbol.asyncDispose]())
  try {
    sandbox = await createSandbox({
      taskRoot: staged.taskRoot,
      handler: staged.handler,
      runtimeClient: [...(options.oneStream ? ONE_STREAM : []), ...runtime.command(staged.handler)],
      executionEnvironment: `AWS_Lambda_${runtime.lambda}`,
      layers: options.layer ? [layerFolder] : [],
      timeout: options.timeout * 1_000,
      freeze: options.freeze,
      environment: {
        POST_INVOKE_LOG_LEVEL: 'DEBUG', // it says which companion was chosen
        POST_INVOKE_COMPANION: 'embedded',
        ...runtime.variables,
        ...(options.layer ? { POST_INVOKE_COMPANION: 'layer' } : {}),
        ...variables,
        ...moments.variables([...staged.nodeOptions, variables.NODE_OPTIONS].filter(Boolean).join(' ')),
      },
      onEvent: moments.onEvent,
      onLog: moments.onLog,
    })
    for (let index = 0; index < options.count; index += 1) {
      const report = await sandbox.invoke(event)
      interrupts.check()
      moments.flush()
      reports.push(report)
      const { invocations } = summarize(moments.all, [report])
      for (const run of invocations) options.onInvocation?.(run)
    }
    await sandbox.shutdown()
    interrupts.check()
    moments.flush()
    return summarize(moments.all, reports)
  } catch (error) {
    moments.flush()
    if (!(error instanceof SandboxError) || error.code !== 'INIT_FAILED') throw error
    const hint = staged.hint(error.message)
    const message = options.isWatched ? (error.message.split('\nLast lines written:')[0] ?? '') : error.message
    const failed = moments.all.findLast(moment => moment.type === 'init-failed')
    throw new InitFailed(hint === undefined ? message : `${message}\n${hint}`, {
      ...summarize(moments.all, []),
      init: {
        error: { type: failed?.errorType ?? '', message: failed?.message ?? message, ...(hint ? { hint } : {}) },
      },
    })
  } finally {
    interrupts.end()
    await sandbox?.[Symbol.asyncDispose]()
    staged.remove()
  }
}

/** Puts standard error where standard output goes. The process stays the one that is started. */
const ONE_STREAM = ['/bin/sh', '-c', 'exec "$@" 2>&1', 'sh'] as const

/** Ctrl+C: processes of the sandbox are in groups of their own, and would not notice. A second one ends us at once. */
const watchInterrupts = (dispose: () => PromiseLike<void> | undefined) => {
  let code: number | undefined
  const listeners = Object.entries({ SIGINT: 130, SIGTERM: 143 }).map(([signal, exitCode]) => {
    const listener = () => {
      code = exitCode
      // While there is no sandbox yet, its watchdog ends what it has started when we are gone.
      if (dispose() === undefined) process.exit(exitCode)
    }
    process.once(signal, listener)
    return [signal, listener] as const
  })
  return {
    /** @throws Interrupted once a signal has come. */
    check() {
      if (code !== undefined) throw new Interrupted(code)
    },
    end() {
      for (const [signal, listener] of listeners) process.off(signal, listener)
    },
  }
}
