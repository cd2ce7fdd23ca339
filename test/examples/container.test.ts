// examples/container: what its Dockerfile copies where, without Docker.
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { type RuntimeClient, startEmulator } from '../rie/rie.ts'
import { describeDeployment, expectOrders, httpEvent, startAnalytics } from './deployment.ts'
import { project, pythonTools, TOOL_MS } from './project.ts'

const container = project('container')
const dockerfile = readFileSync(container.path('Dockerfile'), 'utf8')

/** What the base image sets. */
const TASK_ROOT = '/var/task'

/** The root of the image's file system, as far as the Dockerfile makes it. */
let image: string

beforeAll(async () => {
  image = mkdtempSync(join(tmpdir(), 'post-invoke-image-'))
  await container.npm('build')
  for (const [, source = '', target = ''] of dockerfile.matchAll(/^COPY (\S+) (\S+)$/gm)) {
    cpSync(container.path(source), join(image, target.replace(/^\$\{LAMBDA_TASK_ROOT\}/, TASK_ROOT)), {
      recursive: true,
    })
  }
}, TOOL_MS)

afterAll(() => rmSync(image, { recursive: true, force: true }))

const handler = () => JSON.parse(/^CMD (.*)$/m.exec(dockerfile)?.[1] ?? '[]')[0]

describe('examples/container', () => {
  it('has a Dockerfile that hadolint finds no fault with', async () => {
    const { code, stdout, stderr } = await container.run(join(pythonTools(), 'bin', 'hadolint'), ['Dockerfile'])
    expect({ code, output: stdout + stderr }).toEqual({ code: 0, output: '' })
  })

  it("is built on AWS's image of the newest runtime", () => {
    expect(dockerfile).toMatch(/^FROM public\.ecr\.aws\/lambda\/nodejs:24$/m)
  })

  it.each<RuntimeClient>(['RIC 4', 'RIC 3'])(
    'runs in the emulator, which the base image has, with %s',
    async runtimeClient => {
      await using analytics = await startAnalytics()
      const emulator = await startEmulator({
        runtimeClient,
        handler: handler(),
        opt: join(image, 'opt'),
        taskRoot: join(image, TASK_ROOT),
        environment: { ...analytics.urls },
      })
      try {
        const [report, answer] = await Promise.all([
          analytics.next().then(({ body, response }) => {
            response.writeHead(204).end()
            return JSON.parse(body)
          }),
          emulator.invoke(httpEvent({ product: 'tea' })),
        ])
        expect(answer.body.statusCode).toBe(201)
        expect(JSON.parse(answer.body.body)).toEqual(report)
        await emulator.stop()
      } finally {
        emulator.kill()
      }
      expect(emulator.registrations).toEqual(['external post-invoke: INVOKE SHUTDOWN'])
      const [invocation = []] = emulator.invocations
      expect(invocation.filter(fact => fact !== 'runtime: next')).toEqual(['runtime: response', 'extension: next'])
    },
    TOOL_MS,
  )

  describeDeployment(
    () => ({
      code: join(image, TASK_ROOT),
      handler: handler(),
      timeout: 30,
      variables: { ANALYTICS_URL: undefined },
      layers: [join(image, 'opt')],
    }),
    container.path('handler.ts'),
    expectOrders,
  )
})
