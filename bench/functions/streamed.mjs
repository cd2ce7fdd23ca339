// The streaming trick: a streamed response ends and the handler goes on. For functions behind a streaming URL only.
import { answer, work } from './work.mjs'

export const handler = awslambda.streamifyResponse(async (event, stream) => {
  stream.end(JSON.stringify(answer()))
  if (event.work) await work(event.work)
})
