#!/usr/bin/env node
// An extension in Node.js as it is usually written: it registers from Node itself, and holds nothing.
const http = require('node:http')
const { basename } = require('node:path')

const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':')
const agent = new http.Agent({ keepAlive: true })
const call = (method, path, headers, body) =>
  new Promise((resolve, reject) => {
    const request = http.request(
      { host, port, agent, method, path: `/2020-01-01/extension/${path}`, headers },
      response => {
        response.resume().on('end', () => resolve(response))
      },
    )
    request.on('error', reject).end(body)
  })

const main = async () => {
  const name = basename(process.argv[1])
  const { headers } = await call(
    'POST',
    'register',
    { 'Lambda-Extension-Name': name },
    '{"events":["INVOKE","SHUTDOWN"]}',
  )
  const identifier = headers['lambda-extension-identifier']
  for (;;) await call('GET', 'event/next', { 'Lambda-Extension-Identifier': identifier })
}

main()
