// Streamed responses on their way: both generations of the runtime client send them through node:http, and nothing else of
// an invocation. Its diagnostics channels tell when one begins and when Lambda has accepted its end.
// https://nodejs.org/api/diagnostics_channel.html#http

import { builtIn } from '../built-in.ts'
import { resolvers, withLimit } from './waits.ts'

export type ResponseStreams = ReturnType<typeof observeResponseStreams>

export function observeResponseStreams() {
  const { subscribe } = builtIn('node:diagnostics_channel')
  /** By path: what resolves when the stream has been accepted, `undefined` from then on. */
  const streams = new Map<string, PromiseWithResolvers<void> | undefined>()

  function begin({ request }: any) {
    if (request.method !== 'POST' || !request.path.startsWith(INVOCATIONS)) return
    for (const [path, stream] of streams) if (!stream) streams.delete(path)
    if (!streams.has(request.path)) streams.set(request.path, resolvers())
  }
  function finish({ request }: any) {
    end(request.path)
  }
  function end(path: string) {
    streams.get(path)?.resolve()
    if (streams.has(path)) streams.set(path, undefined)
  }
  subscribe('http.client.request.created', begin)
  subscribe('http.client.response.finish', finish)
  subscribe('http.client.request.error', finish)

  return {
    /** Whether the response of this request is, or was, a stream. Until the next one begins. */
    has: (requestId: string) => streams.has(pathOf(requestId)),
    /**
     * Resolves when the stream has been accepted, has failed, or has taken `limit` milliseconds; `undefined` where there is
     * none on its way.
     */
    accepted(requestId: string, limit?: number): Promise<void> | undefined {
      const path = pathOf(requestId)
      const stream = streams.get(path)
      if (stream && limit) void withLimit(limit, false, stream.promise).then(() => end(path))
      return stream?.promise
    },
  }
}

/** https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html */
const INVOCATIONS = '/2018-06-01/runtime/invocation/'

const pathOf = (requestId: string) => `${INVOCATIONS}${encodeURIComponent(requestId)}/response`
