// Streamed responses on their way: both generations of the runtime client send them through node:http, whose diagnostics
// channels tell when one begins and when Lambda has accepted its end.
// https://nodejs.org/api/diagnostics_channel.html#http

import type { ClientRequest } from 'node:http'
import { builtIn } from '../built-in.ts'
import { clearTimeout, resolvers, timer } from './waits.ts'

export type ResponseStreams = {
  /** Whether the response of this request is, or was, a stream. Until {@link ResponseStreams.forget}. */
  has(requestId: string): boolean
  /**
   * Resolves when the stream has been accepted, has failed, or has taken `limit` milliseconds; `undefined` where there is
   * none on its way.
   */
  accepted(requestId: string, limit?: number): Promise<void> | undefined
  forget(requestId: string): void
}

export function observeResponseStreams(): ResponseStreams {
  const { subscribe } = builtIn('node:diagnostics_channel')
  /** By request id: what resolves when the stream has been accepted, `undefined` from then on. */
  const streams = new Map<string, PromiseWithResolvers<void> | undefined>()

  function begin(message: unknown) {
    const requestId = requestIdOf(message)
    if (requestId === undefined || streams.has(requestId) || !isStreamed(message)) return
    streams.set(requestId, resolvers())
  }
  function finish(message: unknown) {
    const requestId = requestIdOf(message)
    if (requestId === undefined || !streams.has(requestId)) return
    streams.get(requestId)?.resolve()
    streams.set(requestId, undefined)
  }
  subscribe('http.client.request.created', begin)
  subscribe('http.client.response.finish', finish)
  subscribe('http.client.request.error', finish)

  return {
    has: requestId => streams.has(requestId),
    accepted(requestId, limit) {
      const stream = streams.get(requestId)
      if (stream && limit !== undefined) {
        const timeLimit = timer(limit, false, stream.resolve)
        void stream.promise.then(() => clearTimeout(timeLimit))
      }
      return stream?.promise
    },
    forget: requestId => void streams.delete(requestId),
  }
}

const isStreamed = (message: unknown): boolean =>
  (message as { request: ClientRequest }).request.getHeader('Lambda-Runtime-Function-Response-Mode') === 'streaming'

function requestIdOf(message: unknown): string | undefined {
  const { method, path } = (message as { request: ClientRequest }).request
  if (method !== 'POST') return undefined
  // https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
  const encoded = /^\/2018-06-01\/runtime\/invocation\/([^/]+)\/response$/.exec(path)?.[1]
  try {
    return encoded === undefined ? undefined : decodeURIComponent(encoded)
  } catch {
    return undefined // not the runtime client's: it encodes what it puts there
  }
}
