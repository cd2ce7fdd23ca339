import { afterEach, expect, jest, test } from '@jest/globals'
import { invoke, reset, send, shutdown } from 'middy-post-invoke/testing'
import { handler, mailer } from './orders.ts'

afterEach(async () => {
  await reset()
  jest.restoreAllMocks()
  jest.useRealTimers()
})

test('mails the customer', async () => {
  const mail = jest.spyOn(mailer, 'send')
  const { answer, task } = await invoke(handler, { email: 'ann@example.com' })
  expect(answer.statusCode).toBe(201)
  expect(task('mail').status).toBe('completed')
  expect(mail).toHaveBeenCalledWith('ann@example.com')
})

test('answers before it does', async () => {
  const mail = jest.spyOn(mailer, 'send')
  const { answered, settled } = send(handler, { email: 'ann@example.com' })
  await answered
  expect(mail).not.toHaveBeenCalled()
  await settled
  expect(mail).toHaveBeenCalledTimes(1)
})

test('answers even where the mail cannot be sent', async () => {
  jest.spyOn(mailer, 'send').mockRejectedValue(new Error('no server'))
  const { answer, task } = await invoke(handler, { email: 'ann@example.com' }, { failures: 'report' })
  expect(answer.statusCode).toBe(201)
  expect(task('mail')).toMatchObject({ status: 'failed', error: new Error('no server') })
})

test('closes the mailer when the environment ends', async () => {
  const close = jest.spyOn(mailer, 'close')
  const { hooks } = await shutdown()
  expect(hooks).toMatchObject([{ name: 'mailer', status: 'completed' }])
  expect(close).toHaveBeenCalledTimes(1)
})

test('mails though the server takes an hour', async () => {
  jest.useFakeTimers()
  jest.spyOn(mailer, 'send').mockImplementation(() => new Promise(resolve => setTimeout(resolve, 3_600_000)))
  const { task } = await invoke(
    handler,
    { email: 'ann@example.com' },
    { advanceTimers: jest.advanceTimersToNextTimerAsync },
  )
  expect(task('mail').status).toBe('completed')
})
