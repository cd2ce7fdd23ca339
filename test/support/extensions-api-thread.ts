// An Extensions API in a thread of its own, for what waits for it synchronously.
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'

export type ApiThread = {
  readonly address: string
  /** Each request as `METHOD path body`, in their order. */
  readonly requests: readonly string[]
  /** Answers the next request for an event, or the one that waits. */
  answer(event: object): void
  close(): Promise<void>
}

const code = `
const { parentPort, workerData } = require('node:worker_threads')
const server = require('node:http').createServer((request, response) => {
  let body = ''
  request.on('data', chunk => { body += chunk })
  request.on('end', () => {
    parentPort.postMessage([request.method, request.url, body].join(' ').trim())
    if (request.url.endsWith('/register')) {
      response.writeHead(workerData.status, { 'Lambda-Extension-Identifier': 'an-identifier' }).end('{}')
    } else waiting.push(response)
    next()
  })
})
const waiting = []
const events = []
const next = () => {
  while (waiting.length > 0 && events.length > 0) waiting.shift().end(JSON.stringify(events.shift()))
}
parentPort.on('message', event => { events.push(event); next() })
server.listen(0, '127.0.0.1', () => parentPort.postMessage(server.address().port))
`

/** @param status - What registering is answered with. */
export const startApiThread = async (status = 200): Promise<ApiThread> => {
  const worker = new Worker(code, { eval: true, workerData: { status } })
  const [port] = await once(worker, 'message')
  const requests: string[] = []
  worker.on('message', request => requests.push(request))
  return {
    address: `127.0.0.1:${port}`,
    requests,
    answer: event => worker.postMessage(event),
    close: async () => void (await worker.terminate()),
  }
}
