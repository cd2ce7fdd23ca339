// The test kit. Compiled, never run.
import middy from '@middy/core'
import type {
  APIGatewayProxyEventV2,
  APIGatewayProxyStructuredResultV2,
  Handler,
  Context as LambdaContext,
} from 'aws-lambda'
import { withPostInvoke } from '../../src/handler.ts'
import postInvoke from '../../src/index.ts'
import {
  type HookReport,
  invoke,
  type reset,
  send,
  shutdown,
  type TaskReport,
  TestingError,
} from '../../src/testing/index.ts'
import { check, type Same } from './expect.ts'

type Event = APIGatewayProxyEventV2
type Result = APIGatewayProxyStructuredResultV2
declare const event: Event

const behindMiddy = middy<Event, Result>()
  .use(postInvoke())
  .handler(async () => ({ statusCode: 201 }))
const plain = withPostInvoke(async ({ rawPath }: Event) => rawPath)
declare const typed: Handler<Event, Result>

export const test = async () => {
  const { answer, tasks, task } = await invoke(behindMiddy, event)
  check<Same<typeof answer, Result>>()
  check<Same<typeof tasks, readonly TaskReport[]>>()
  check<Same<ReturnType<typeof task>, TaskReport>>()
  check<Same<(typeof tasks)[number]['error'], unknown>>()

  const { answer: path } = await invoke(plain, event, {
    timeout: 1_000,
    failures: 'report',
    context: { functionName: '' },
  })
  check<Same<typeof path, string>>()
  await invoke(typed, event)

  const { answered, settled, context } = send(plain, event, { context: { awsRequestId: 'r1' } })
  check<Same<typeof answered, Promise<string>>>()
  check<Same<Awaited<typeof settled>['tasks'], readonly TaskReport[]>>()
  check<Same<typeof context, LambdaContext>>()

  const { hooks } = await shutdown({ failures: 'report' })
  check<Same<typeof hooks, readonly HookReport[]>>()
  check<Same<ReturnType<typeof reset>, Promise<void>>>()

  // @ts-expect-error an event of another kind
  await invoke(plain, 42)
  // @ts-expect-error what is no handler
  await invoke('index.handler', event)
  // @ts-expect-error a typo
  await invoke(plain, event, { timout: 1_000 })
  // @ts-expect-error its settled promise reports anyway
  send(plain, event, { failures: 'report' })
  // @ts-expect-error
  await shutdown({ failures: 'ignore' })
}

export const isFailure = (error: unknown) =>
  error instanceof TestingError && error.code === 'TASK_FAILED' && error.errors.length > 0
