import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { createSandbox } from '../../dist/sandbox/index.js'
import type { SandboxOptions } from '../../src/sandbox/types.ts'
import { builtInClient, runtimeClients } from '../support/runtime-clients.ts'
import {
  bashLayer,
  configurableLayer,
  extensionVariables,
  lines,
  outline,
  taskRoot,
  useSandboxes,
} from '../support/sandboxes.ts'

const start = useSandboxes()

describe.each(runtimeClients)('Init with the $name', client => {
  test('starts the runtime only after every external extension has registered', async () => {
    const sandbox = await start({
      ...client.options('index.handler'),
      layers: [configurableLayer, bashLayer],
      environment: extensionVariables({ registerAfterMs: 50 }),
    })

    const order = sandbox.events.map(({ type }) => type)
    expect(order[0]).toBe('init-started')
    expect(order.lastIndexOf('extension-registered')).toBeLessThan(order.indexOf('runtime-started'))
    expect(order.at(-1)).toBe('init-ended')
    expect(outline(sandbox, 'extension-registered').sort()).toEqual([
      'extension-registered:bash-extension',
      'extension-registered:configurable',
    ])
    expect(outline(sandbox, 'extension-next', 'runtime-next')).toHaveLength(3)
    expect(Object.keys(sandbox.extensionPids).sort()).toEqual(['bash-extension', 'configurable'])
    expect(lines(sandbox, 'configurable')).toEqual(['registered with sandbox index.handler'])
  })

  test('takes an internal extension that registers before the first next', async () => {
    const sandbox = await start(client.options('internal.handler'))
    expect(sandbox.events).toContainEqual(
      expect.objectContaining({ type: 'extension-registered', name: 'internal', kind: 'internal', events: ['INVOKE'] }),
    )
    expect((await sandbox.invoke({})).body()).toEqual([{ status: 200 }])
  })

  test('refuses an internal extension that registers after it', async () => {
    const sandbox = await start(client.options('internal.tooLate'))
    expect((await sandbox.invoke({})).body()).toMatchObject({
      status: 403,
      errorType: 'Extension.RegistrationClosed',
    })
  })

  test('refuses SHUTDOWN to an internal extension', async () => {
    const sandbox = await start({
      ...client.options('internal.handler'),
      environment: { INTERNAL_EVENTS: '["INVOKE","SHUTDOWN"]' },
    })
    expect((await sandbox.invoke({})).body()).toEqual([{ status: 403, errorType: 'Extension.InvalidEventType' }])
  })

  test('refuses a second registration of one name, and the eleventh extension', async () => {
    const names = ['configurable', 'same', 'same', ...'abcdefghi']
    const sandbox = await start({
      ...client.options('internal.handler'),
      layers: [configurableLayer],
      environment: { ...extensionVariables({}), INTERNAL_NAMES: names.join() },
    })
    const answers = (await sandbox.invoke({})).body<{ status: number; errorType?: string }[]>()
    expect(answers.map(({ status, errorType }) => errorType ?? status)).toEqual([
      'Extension.InvalidExtensionState',
      200,
      'Extension.InvalidExtensionState',
      ...Array(8).fill(200),
      'Extension.TooManyExtensions',
    ])
  })

  test.each([
    ['a module that throws', 'broken.handler', /this module cannot be loaded/],
    [
      'a handler that is not there',
      'index.missing',
      /index\.missing is (undefined or )?not exported|is not a function/,
    ],
    ['a module that is not there', 'missing.handler', /Cannot find module/],
  ])('fails with what the client reports: %s', async (_, handler, message) => {
    await expect(createSandbox({ taskRoot, ...client.options(handler) })).rejects.toThrow(message)
  })

  test('fails when the process exits, with the lines it wrote', async () => {
    const failed = createSandbox({ taskRoot, ...client.options('exits.handler') })
    await expect(failed).rejects.toMatchObject({ name: 'SandboxError', code: 'INIT_FAILED' })
    await expect(failed).rejects.toThrow(/Runtime\.ExitError: .*exit status 7.*about to leave/s)
  })

  test('fails when the process never asks for an invocation', async () => {
    const failed = createSandbox({ taskRoot, initTimeout: 1_000, ...client.options('endless.handler') })
    await expect(failed).rejects.toThrow('Init did not end within 1000 ms: the runtime did not ask')
  })
})

describe('Init of extensions', () => {
  test.each<[string, Record<string, unknown>, RegExp]>([
    ['exits', { exitAtStart: true }, /Extension\.Crash: extension configurable: exit status 3/],
    ['does not register', { neverRegisters: true }, /within 1500 ms: extension configurable did not register/],
    ['registers as another', { name: 'other' }, /did not register\. Its name must be its file's name, but "other"/],
    ['does not ask for events', { neverAsks: true }, /configurable registered, but did not ask for its first event/],
    ['reports an error', { initError: 'Mine.Bad' }, /Extension\.InitError: Extension configurable reported Mine\.Bad/],
  ])('fails when one %s', async (_, settings, message) => {
    const failed = createSandbox({
      taskRoot,
      ...builtInClient.options('index.handler'),
      layers: [configurableLayer],
      initTimeout: 1_500,
      environment: extensionVariables({ events: ['INVOKE'], ...settings }),
    })
    await expect(failed).rejects.toThrow(message)
  })
})

describe('variables', () => {
  test.each(runtimeClients)('are those of Lambda, and nothing of the host ($name)', async client => {
    process.env.SANDBOX_TEST_HOST_ONLY = 'must not get in'
    const sandbox = await start({
      ...client.options('index.describeEnvironment'),
      layers: [configurableLayer],
      environment: {
        ...extensionVariables({ printEnvironment: true }),
        MINE: 'yes',
        _MINE: 'function only',
        AWS_LAMBDA_LOG_FORMAT: 'Text',
        LANG: undefined,
      },
    })
    delete process.env.SANDBOX_TEST_HOST_ONLY
    const { env, cwd } = (await sandbox.invoke({})).body<{ env: Record<string, string>; cwd: string }>()
    const extension = JSON.parse(lines(sandbox, 'configurable')[0] ?? '')

    expect(cwd).toBe(taskRoot)
    expect(env).toMatchObject({
      _HANDLER: 'index.describeEnvironment',
      LAMBDA_TASK_ROOT: taskRoot,
      AWS_LAMBDA_RUNTIME_API: sandbox.runtimeApi,
      AWS_EXECUTION_ENV: client.kind === 'ric3' ? 'AWS_Lambda_nodejs22.x' : 'AWS_Lambda_nodejs24.x',
      AWS_LAMBDA_FUNCTION_NAME: 'sandbox',
      MINE: 'yes',
      _MINE: 'function only',
    })
    expect(extension).toMatchObject({
      AWS_LAMBDA_RUNTIME_API: sandbox.runtimeApi,
      AWS_LAMBDA_LOG_FORMAT: 'Text',
      MINE: 'yes',
      TZ: ':UTC',
    })
    expect(env).not.toHaveProperty('LANG')
    expect(env).not.toHaveProperty('SANDBOX_TEST_HOST_ONLY')
    expect(
      Object.keys(extension).filter(name =>
        /^_[A-Z]|^AWS_LAMBDA_LOG_(GROUP|STREAM)|EXECUTION_ENV|^LAMBDA_TASK_ROOT|HOST/.test(name),
      ),
    ).toEqual([])
  })

  test('replace the standard ones, but not the address of the APIs', async () => {
    const sandbox = await start({
      handler: 'index.describeEnvironment',
      environment: {
        AWS_LAMBDA_FUNCTION_NAME: 'renamed',
        AWS_EXECUTION_ENV: undefined,
        AWS_LAMBDA_RUNTIME_API: 'localhost:1',
      },
    })
    const { env } = (await sandbox.invoke({})).body<{ env: Record<string, string> }>()
    expect(env).toMatchObject({ AWS_LAMBDA_FUNCTION_NAME: 'renamed', AWS_LAMBDA_RUNTIME_API: sandbox.runtimeApi })
    expect(env).not.toHaveProperty('AWS_EXECUTION_ENV')
  })
})

describe('options', () => {
  let layer: string
  beforeEach(async () => {
    layer = await mkdtemp(join(tmpdir(), 'sandbox-layer-'))
    await mkdir(join(layer, 'extensions', 'a-folder'), { recursive: true })
  })
  afterEach(() => rm(layer, { recursive: true }))

  test('a layer may hold folders beside its extensions', async () => {
    const sandbox = await start({ layers: [layer] })
    expect(sandbox.extensionPids).toEqual({})
  })

  test('everything else beside them gets started, so it must be executable', async () => {
    await writeFile(join(layer, 'extensions', 'README'), 'read me')
    await expect(start({ layers: [layer] })).rejects.toThrow(/Everything in extensions\/ gets started, but .*README/)
  })

  test('an extension that cannot be started fails Init', async () => {
    await writeFile(join(layer, 'extensions', 'lost'), '#!/no/such/interpreter', { mode: 0o755 })
    await expect(start({ layers: [layer] })).rejects.toThrow('Extension.LaunchError: extension lost')
  })

  test('a runtime that cannot be started fails Init', async () => {
    await expect(start({ runtimeClient: ['/no/such/node'] })).rejects.toThrow('Runtime.InvalidEntrypoint')
  })

  test.each<[string, Partial<SandboxOptions>, string]>([
    ['taskRoot', { taskRoot: '/no/such/folder' }, 'Expected taskRoot to be an existing folder, got "/no/such/folder"'],
    ['layers', { layers: ['/no/such/layer'] }, 'Expected layers[0] to be an existing folder'],
    ['handler', { handler: '' }, 'Expected handler to be a string that is not empty, got "" (string)'],
    ['timeout', { timeout: -1 }, 'Expected timeout to be milliseconds between 0 and 900,000, got -1 (number)'],
    ['runtimeClient', { runtimeClient: [] }, "Expected runtimeClient to be 'built-in' or a command line"],
  ])('%s is checked', async (_, options, message) => {
    const failed = start(options)
    await expect(failed).rejects.toMatchObject({ code: 'OPTION_INVALID' })
    await expect(failed).rejects.toThrow(message)
  })
})
