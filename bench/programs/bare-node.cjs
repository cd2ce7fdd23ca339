// The floor for a companion in Node.js: a process that loads node:http and asks for its next event.
const http = require('node:http')

const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':')
const headers = { 'Lambda-Extension-Identifier': 'bare' }
http.get({ host, port, path: '/2020-01-01/extension/event/next', headers })
