// What the Middy middleware and the wrapper of plain handlers share: how an invocation is opened.
import type { Context as LambdaContext } from 'aws-lambda'
import type { Defer } from './defer-input.ts'
import { type Options, withDefaults } from './options.ts'
import { functionProcess, type OpenedInvocation, type OpenRequest } from './process.ts'
import { provideVercelContext } from './vercel-context.ts'

/** The context of a handler behind the middleware: Lambda's own, and `defer`. */
export type Context = LambdaContext & {
  /** Defers a task until after the response. */
  defer: Defer
}

/** @returns a function that opens the invocation of a request, and puts `defer` on its context. */
export function createOpener(options?: Options): (request: OpenRequest) => OpenedInvocation {
  const { shutdown, waitUntil, logger, ...settings } = withDefaults(options)
  const host = functionProcess(logger)
  host.takePart()
  if (shutdown === true) host.arm()
  if (shutdown === false) host.disarm()
  if (waitUntil) provideVercelContext()
  return request => host.open(request, settings)
}
