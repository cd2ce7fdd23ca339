import assert from 'node:assert/strict'
import { afterEach, mock, test } from 'node:test'
import { invoke, reset, send, shutdown } from 'middy-post-invoke/testing'
import { handler, mailer } from './orders.ts'

afterEach(async () => {
  await reset()
  mock.restoreAll()
  mock.timers.reset()
})

test('mails the customer', async () => {
  const mail = mock.method(mailer, 'send')
  const { answer, task } = await invoke(handler, { email: 'ann@example.com' })
  assert.equal(answer.statusCode, 201)
  assert.equal(task('mail').status, 'completed')
  assert.deepEqual(mail.mock.calls[0]?.arguments, ['ann@example.com'])
})

test('answers before it does', async () => {
  const mail = mock.method(mailer, 'send')
  const { answered, settled } = send(handler, { email: 'ann@example.com' })
  await answered
  assert.equal(mail.mock.callCount(), 0)
  await settled
  assert.equal(mail.mock.callCount(), 1)
})

test('answers even where the mail cannot be sent', async () => {
  mock.method(mailer, 'send', async () => {
    throw new Error('no server')
  })
  const { answer, task } = await invoke(handler, { email: 'ann@example.com' }, { failures: 'report' })
  assert.equal(answer.statusCode, 201)
  assert.equal(task('mail').status, 'failed')
  assert.match(String(task('mail').error), /no server/)
})

test('closes the mailer when the environment ends', async () => {
  const close = mock.method(mailer, 'close')
  const { hooks } = await shutdown()
  assert.deepEqual(
    hooks.map(({ name, status }) => [name, status]),
    [['mailer', 'completed']],
  )
  assert.equal(close.mock.callCount(), 1)
})

test('mails though the server takes an hour', async () => {
  mock.timers.enable()
  mock.method(mailer, 'send', () => new Promise(resolve => setTimeout(resolve, 3_600_000)))
  const { task } = await invoke(handler, { email: 'ann@example.com' }, { advanceTimers: () => mock.timers.runAll() })
  assert.equal(task('mail').status, 'completed')
})
