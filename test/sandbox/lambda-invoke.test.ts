import { describe, expect, test } from '@jest/globals'
import { runtimeClients } from '../support/runtime-clients.ts'
import {
  bashLayer,
  configurableLayer,
  eventually,
  extensionVariables,
  isAlive,
  lines,
  outline,
  rawRuntime,
  useSandboxes,
} from '../support/sandboxes.ts'

const start = useSandboxes()

describe.each(runtimeClients)('an invocation with the $name', client => {
  test('is answered and released', async () => {
    const sandbox = await start(client.options('index.handler'))
    const report = await sandbox.invoke({ n: 1 }, { requestId: 'the-request' })

    expect(report).toMatchObject({
      requestId: 'the-request',
      kind: 'response',
      streamed: false,
      timedOut: false,
      status: 'success',
    })
    expect(report.body()).toMatchObject({ event: { n: 1 }, requestId: 'the-request', pid: sandbox.runtimePid })
    expect(report.releasedAt).toBeGreaterThanOrEqual(report.at)
    expect(outline(sandbox, 'invoke', 'response', 'runtime-next', 'released').slice(1)).toEqual([
      'invoke',
      'response',
      'runtime-next',
      'released',
    ])
  })

  test('answers its caller before extensions release the environment', async () => {
    const sandbox = await start({
      ...client.options('index.handler'),
      layers: [configurableLayer],
      environment: extensionVariables({ holdMs: 100 }),
    })
    const { requestId, answered, released } = sandbox.send({ n: 1 })
    expect((await answered).body()).toMatchObject({ event: { n: 1 } })
    expect(lines(sandbox, 'configurable')).not.toContain(`done ${requestId}`)
    expect((await released).status).toBe('success')
    expect(lines(sandbox, 'configurable')).toContain(`done ${requestId}`)

    const invocation = sandbox.events.slice(sandbox.events.findIndex(({ type }) => type === 'invoke'))
    expect(invocation.map(({ type }) => type)).toEqual([
      'invoke',
      'response',
      'runtime-next',
      'extension-next',
      'released',
    ])
  })

  test('is held by an internal extension', async () => {
    const sandbox = await start({
      ...client.options('internal.handler'),
      environment: { INTERNAL_HOLD_MS: '50' },
    })
    const { answered, released, requestId } = sandbox.send({})
    await answered
    await released
    expect(lines(sandbox, 'function').join('\n')).toMatch(
      new RegExp(`internal INVOKE ${requestId}.*internal done`, 's'),
    )
    expect(outline(sandbox, 'response', 'extension-next', 'released').slice(-3)).toEqual([
      'response',
      'extension-next:internal',
      'released',
    ])
  })

  test('is not waited for by extensions without INVOKE', async () => {
    const sandbox = await start({
      ...client.options('internal.handler'),
      layers: [configurableLayer],
      environment: { ...extensionVariables({ events: ['SHUTDOWN'] }), INTERNAL_EVENTS: '[]' },
    })
    await sandbox.invoke({})
    await sandbox.invoke({})
    expect(outline(sandbox, 'extension-next')).toHaveLength(2)
    expect(outline(sandbox, 'released')).toHaveLength(2)
  })

  test('works with an extension written in bash', async () => {
    const sandbox = await start({ ...client.options('index.handler'), layers: [bashLayer] })
    const { requestId } = await sandbox.invoke({})
    await sandbox.invoke({})
    expect(lines(sandbox, 'bash-extension')).toHaveLength(2)
    expect(JSON.parse(lines(sandbox, 'bash-extension')[0] ?? '')).toMatchObject({ eventType: 'INVOKE', requestId })
  })

  test('tells its caller of an error', async () => {
    const sandbox = await start(client.options('index.handler'))
    const report = await sandbox.invoke({ throw: 'no luck' })
    expect(report).toMatchObject({ kind: 'error', errorType: 'TypeError', status: 'error' })
    expect(report.body()).toMatchObject({ errorType: 'TypeError', errorMessage: 'no luck' })
    expect(lines(sandbox, 'function').join()).toContain('no luck')
    expect((await sandbox.invoke({})).status).toBe('success')
  })

  test('has the context of Lambda', async () => {
    const sandbox = await start({ ...client.options('index.describeContext'), timeout: 20_000 })
    const { requestId, ...report } = await sandbox.invoke(
      {},
      { clientContext: { Custom: 'Grüße ✓' }, traceId: 'Root=1' },
    )
    expect(report.body()).toMatchObject({
      awsRequestId: requestId,
      functionName: 'sandbox',
      functionVersion: '$LATEST',
      memoryLimitInMB: '128',
      invokedFunctionArn: 'arn:aws:lambda:us-east-1:123456789012:function:sandbox',
      clientContext: { Custom: 'Grüße ✓' },
      trace: 'Root=1',
    })
    const { remaining } = report.body()
    expect(remaining).toBeGreaterThan(0)
    expect(remaining).toBeLessThanOrEqual(20_000)
  })

  test('takes what JSON can say, and nothing', async () => {
    const sandbox = await start(client.options('index.handler'))
    expect((await sandbox.invoke({ text: 'Grüße ✓' })).body().event).toEqual({ text: 'Grüße ✓' })
    expect((await sandbox.invoke({ nothing: true })).payload).toBe('null')
    expect((await sandbox.invoke(undefined)).body().event).toEqual({})
  })

  test('may not answer with more than 6 MB', async () => {
    const sandbox = await start(client.options('index.handler'))
    expect((await sandbox.invoke({ bytes: 6 * 1024 * 1024 })).status).toBe('success')
    expect(await sandbox.invoke({ bytes: 7 * 1024 * 1024 })).toMatchObject({
      status: 'error',
      errorType: 'Function.ResponseSizeTooLarge',
    })
  })

  test('waits for the release of the one before', async () => {
    const sandbox = await start({
      ...client.options('index.handler'),
      layers: [configurableLayer],
      environment: extensionVariables({ holdMs: 20 }),
    })
    const sent = [1, 2, 3].map(n => sandbox.send({ n }))
    const reports = await Promise.all(sent.map(({ released }) => released))
    expect(reports.map(report => report.body().event.n)).toEqual([1, 2, 3])
    expect(outline(sandbox, 'invoke', 'response', 'released')).toEqual(
      [1, 2, 3].flatMap(() => ['invoke', 'response', 'released']),
    )
  })

  test('has its answer out before what comes two turns later can block the event loop', async () => {
    const sandbox = await start(client.options('index.burnsAfterAnswer'))
    await sandbox.invoke('warm')
    const { requestId } = await sandbox.invoke('x'.repeat(100_000))
    await eventually(() => lines(sandbox, 'function').filter(line => line.includes('burnt')).length === 2)
    const response = sandbox.events.find(event => event.type === 'response' && event.requestId === requestId)
    expect(response?.at).toBeLessThan(sandbox.logs.at(-1)?.at ?? 0)
  })

  test('may repeat the id of an earlier one', async () => {
    const sandbox = await start(client.options('index.handler'))
    await sandbox.invoke({}, { requestId: 'again' })
    expect((await sandbox.invoke({ n: 2 }, { requestId: 'again' })).body()).toMatchObject({ event: { n: 2 } })
  })

  test('in one sandbox knows nothing of another', async () => {
    const sandboxes = await Promise.all([1, 2, 3].map(() => start(client.options('index.handler'))))
    const reports = await Promise.all(sandboxes.map((sandbox, n) => sandbox.invoke({ n })))
    expect(reports.map(report => report.body().event.n)).toEqual([0, 1, 2])
    expect(new Set(sandboxes.map(({ runtimePid }) => runtimePid)).size).toBe(3)
    expect(new Set(sandboxes.map(({ runtimeApi }) => runtimeApi)).size).toBe(3)
  })

  test.each([
    ['commonjs.handler', 'from CommonJS'],
    ['index.nested.deep.handler', 'found'],
  ])('finds the handler %s', async (handler, expected) => {
    const sandbox = await start(client.options(handler))
    expect((await sandbox.invoke({})).body()).toBe(expected)
  })
})

describe.each(runtimeClients)('a streamed response with the $name', client => {
  test('has a first byte before its end', async () => {
    const sandbox = await start(client.options('stream.handler'))
    const report = await sandbox.invoke({})
    expect(report).toMatchObject({
      kind: 'response',
      streamed: true,
      payload: 'first,last',
      contentType: 'text/plain',
      status: 'success',
    })
    expect(report.firstByteAt).toBeLessThan(report.at)
    expect(outline(sandbox, 'response-first-byte', 'response', 'released')).toEqual([
      'response-first-byte',
      'response',
      'released',
    ])
  })

  test('says in its trailers that it failed', async () => {
    const sandbox = await start(client.options('stream.handler'))
    const report = await sandbox.invoke({ throw: 'half-way' })
    expect(report).toMatchObject({ kind: 'error', payload: 'first,', errorType: 'RangeError', status: 'error' })
    expect(JSON.parse(report.trailers?.errorBody ?? '')).toMatchObject({ errorMessage: 'half-way' })
    expect((await sandbox.invoke({})).status).toBe('success')
  })

  test('is truncated when the process dies', async () => {
    const sandbox = await start(client.options('stream.handler'))
    const report = await sandbox.invoke({ die: true })
    expect(report).toMatchObject({ kind: 'error', payload: 'first,', errorType: 'Runtime.TruncatedResponse' })
    expect(report).toMatchObject({ status: 'crash', crashed: { process: 'function', signal: 'SIGKILL' } })
  })

  test('begins with the prelude of an HTTP response', async () => {
    const sandbox = await start(client.options('stream.http'))
    const { payload, contentType } = await sandbox.invoke({})
    expect(payload).toBe(`{"statusCode":418}${'\0'.repeat(8)}teapot`)
    expect(contentType).toBe('application/vnd.awslambda.http-integration-response')
  })

  test('can be piped into', async () => {
    const sandbox = await start(client.options('stream.piped'))
    expect((await sandbox.invoke({})).payload).toBe('one two three')
  })
})

describe.each(runtimeClients)('timeouts and crashes with the $name', client => {
  test('a timeout resets the environment, and the next invocation has a fresh Init', async () => {
    const sandbox = await start({
      ...client.options('index.handler'),
      layers: [configurableLayer],
      environment: extensionVariables({}),
      timeout: 700,
    })
    const { runtimePid: first, extensionPids: extensions } = sandbox
    const report = await sandbox.invoke({ sleepMs: 60_000 }, { requestId: 'slow' })

    expect(report).toMatchObject({ kind: 'error', errorType: 'Sandbox.Timedout', timedOut: true, status: 'timeout' })
    expect(report.body().errorMessage).toBe('RequestId: slow Error: Task timed out after 0.70 seconds')
    expect(isAlive(first ?? 0)).toBe(false)
    expect(isAlive(extensions.configurable ?? 0)).toBe(false)
    expect(sandbox.runtimePid).toBeUndefined()
    const fromTimeout = sandbox.events.slice(sandbox.events.findIndex(({ type }) => type === 'timeout'))
    expect(fromTimeout.map(({ type }) => type)).toEqual([
      'timeout',
      'response',
      'reset',
      'shutdown-started',
      'sigterm',
      'process-exited',
      'shutdown-event',
      'process-exited',
      'shutdown-ended',
    ])
    expect(lines(sandbox, 'configurable')).toContain('SHUTDOWN TIMEOUT')

    const { runtimeApi } = sandbox
    expect((await sandbox.invoke({})).status).toBe('success')
    expect(sandbox.runtimePid).not.toBe(first)
    expect(sandbox.runtimeApi).toBe(runtimeApi)
    expect(outline(sandbox, 'init-started')).toHaveLength(2)
  })

  test('an answer that left stands when an extension times out', async () => {
    const sandbox = await start({
      ...client.options('index.handler'),
      layers: [configurableLayer],
      environment: extensionVariables({ holdMs: 60_000, ignoresShutdown: true }),
      timeout: 700,
    })
    const report = await sandbox.invoke({ n: 1 })
    expect(report).toMatchObject({ kind: 'response', timedOut: true, status: 'timeout' })
    expect(report.body()).toMatchObject({ event: { n: 1 } })
  })

  test('a process that exits without an answer fails the invocation', async () => {
    const sandbox = await start(client.options('index.handler'))
    const report = await sandbox.invoke({ exit: 9, log: 'last words' })
    expect(report).toMatchObject({
      kind: 'error',
      errorType: 'Runtime.ExitError',
      status: 'crash',
      crashed: { process: 'function', exitCode: 9, signal: null },
    })
    expect(report.body().errorMessage).toMatch(/exit status 9/)
    expect(lines(sandbox, 'function').join()).toContain('last words')
    expect(outline(sandbox, 'reset')).toHaveLength(1)
    expect((await sandbox.invoke({})).status).toBe('success')
  })

  test('an answer that left stands when the process is killed afterwards', async () => {
    const sandbox = await start({
      ...client.options('index.handler'),
      layers: [configurableLayer],
      environment: extensionVariables({ holdMs: 300 }),
    })
    const { answered, released } = sandbox.send({ n: 1 })
    await answered
    process.kill(sandbox.runtimePid ?? 0, 'SIGKILL')
    const report = await released
    expect(report).toMatchObject({ kind: 'response', status: 'crash', crashed: { signal: 'SIGKILL' } })
    expect(report.body()).toMatchObject({ event: { n: 1 } })
    expect(lines(sandbox, 'configurable')).toContain('SHUTDOWN FAILURE')
  })

  test('an extension that exits crashes the environment', async () => {
    const sandbox = await start({
      ...client.options('index.handler'),
      layers: [configurableLayer],
      environment: extensionVariables({ exitOnInvoke: 4, holdMs: 50 }),
    })
    const report = await sandbox.invoke({ sleepMs: 5_000 })
    expect(report).toMatchObject({
      kind: 'error',
      errorType: 'Extension.Crash',
      status: 'crash',
      crashed: { process: 'configurable', exitCode: 4 },
    })
  })

  test('an extension that reports an exit error crashes the environment', async () => {
    const sandbox = await start({
      ...client.options('index.handler'),
      layers: [configurableLayer],
      environment: extensionVariables({ exitError: 'Mine.Bad' }),
    })
    const report = await sandbox.invoke({ sleepMs: 5_000 })
    expect(report).toMatchObject({ kind: 'error', errorType: 'Extension.ExitError', status: 'crash' })
  })

  test('a process that died between two invocations costs the second one a fresh Init', async () => {
    const sandbox = await start(client.options('index.diesAfterAnswer'))
    expect((await sandbox.invoke(1)).body()).toBe(1)
    await eventually(() => outline(sandbox, 'process-exited').length > 0)
    expect((await sandbox.invoke(2)).body()).toBe(2)
    const order = outline(sandbox, 'process-exited', 'reset', 'init-started', 'invoke')
    expect(order.slice(0, 6)).toEqual([
      'init-started',
      'invoke',
      'process-exited:function',
      'reset',
      'init-started',
      'invoke',
    ])
  })

  test('a fresh Init that fails is reported by the invocation that needed it', async () => {
    const sandbox = await start({
      ...client.options('index.handler'),
      onEvent(event) {
        // The second Init finds its process killed.
        if (event.type === 'runtime-started' && event.at > 0 && inits++ === 1) process.kill(event.pid, 'SIGKILL')
      },
    })
    await sandbox.invoke({ exit: 1 })
    expect(await sandbox.invoke({})).toMatchObject({
      status: 'crash',
      errorType: 'Runtime.ExitError',
      crashed: { signal: 'SIGKILL' },
    })
    expect((await sandbox.invoke({})).status).toBe('success')
  })
  let inits = 0
})

describe.each(runtimeClients.filter(({ kind }) => kind !== 'ric3'))(
  'the store of invocations with the $name',
  client => {
    test('is there from the load of the module on', async () => {
      const sandbox = await start(client.options('store.handler'))
      expect((await sandbox.invoke({})).body()).toEqual({ atLoad: 'object', isSame: true, isOwnId: true })
    })

    test('is not there when the global is not wanted', async () => {
      const sandbox = await start({
        ...client.options('store.handler'),
        environment: { AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA: '1' },
      })
      expect((await sandbox.invoke({})).body()).toMatchObject({ atLoad: 'undefined', isSame: true })
    })

    test('holds the environment while the promise of run is pending', async () => {
      const sandbox = await start(client.options('store.held'))
      await sandbox.invoke({})
      const { answered, released } = sandbox.send({})
      await answered
      expect(lines(sandbox, 'function')).toHaveLength(0)
      await released
      expect(lines(sandbox, 'function').join()).toContain('run settles')
    })
  },
)

test('the built-in client runs TypeScript', async () => {
  const sandbox = await start({ handler: 'typed.handler' })
  expect((await sandbox.invoke({ n: 1 })).body()).toBe(2)
})

test('a client that breaks the rules is told so', async () => {
  const sandbox = await start({ runtimeClient: [process.execPath, rawRuntime] })
  expect(await sandbox.invoke({})).toMatchObject({ payload: '"first"', status: 'success' })
  expect(JSON.parse(lines(sandbox, 'function')[0] ?? '')).toEqual({
    sameInvocationAgain: true,
    unknownId: '400 InvalidRequestID',
    answer: '202',
    secondAnswer: '403 InvalidStateTransition',
    lateError: '403 InvalidStateTransition',
    initError: '403 InvalidStateTransition',
    unknownPath: 404,
    telemetry: 403, // it names no extension
    unknownExtension: '403 Extension.UnknownExtensionIdentifier',
  })
})

test('an unknown response mode is an error', async () => {
  const sandbox = await start({ runtimeClient: [process.execPath, rawRuntime, 'bad-mode'] })
  expect(await sandbox.invoke({})).toMatchObject({ errorType: 'Runtime.InvalidResponseModeHeader', status: 'error' })
})
