import type { Invocation } from '../middleware/invocation.ts'
import { existingProcess } from '../middleware/process.ts'
import type { Scope } from '../middleware/runtime-client.ts'
import { turn } from '../middleware/waits.ts'

/** A plugin of `@aws/durable-execution-sdk-js`. */
export interface DurablePlugin {
  /** Runs one invocation of a durable execution, up to and with the SDK's own `onInvocationEnd`. */
  wrapInvocation<Output>(info: { readonly requestId: string }, run: () => Promise<Output>): Promise<Output>
}

/** What the SDK takes plugins from. */
export type DurablePluginProvider = {
  /** The version of the SDK's contract. */
  readonly pluginApiVersion: 1
  /** The plugin's class. */
  readonly pluginType: new () => DurablePlugin
  /** Makes one. */
  createPlugin(): DurablePlugin
}

/** @param end - Called with an invocation that is over and has not left. */
export const durablePlugin = (end: (invocation: Invocation) => void): DurablePluginProvider => {
  class PostInvokePlugin implements DurablePlugin {
    // Not `onInvocationEnd`: it runs beside those of other plugins, which the answer waits for too, and tells only the request's
    // id, which outside Lambda is made up and need not be the only one of its kind.
    async wrapInvocation<Output>(_info: { readonly requestId: string }, run: () => Promise<Output>) {
      const running = existingProcess()
      if (!running || process.env.AWS_LAMBDA_RUNTIME_API !== undefined) return run()
      const scope: Scope = {}
      try {
        return await running.scopes().run(scope, run)
      } finally {
        void departed(scope)
      }
    }
  }

  const departed = async ({ invocation }: Scope) => {
    await turn() // the SDK gives the answer back meanwhile
    await turn()
    if (!invocation?.isOpen()) return
    while (invocation.isInHandler()) invocation.close() // suspended: its hooks do not run any more
    end(invocation)
  }

  return { pluginApiVersion: 1, pluginType: PostInvokePlugin, createPlugin: () => new PostInvokePlugin() }
}
