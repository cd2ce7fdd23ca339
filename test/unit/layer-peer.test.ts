// The function's end of the line to the layer's companion, over real sockets. The companion is played here.
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { listenForLayer } from '../../src/extension/layer-peer.ts'
import { encode, hello, MAX_LINE_BYTES, type Message, PROTOCOL } from '../../src/extension/link.ts'
import { version } from '../../src/version.ts'
import { recordLog, turns, until } from './helpers.ts'

let folder: string
let count = 0
const open: { destroy(): void }[] = []
const servers: net.Server[] = []
// What listens is never closed by us: a function's process does so until its end.
const createServer = net.createServer
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'post-invoke-'))
  net.createServer = ((...args: any[]) => {
    const server = (createServer as any)(...args)
    servers.push(server)
    return server
  }) as typeof net.createServer
})
afterEach(() => {
  net.createServer = createServer
  for (const socket of open.splice(0)) socket.destroy()
  for (const server of servers.splice(0)) server.close()
  rmSync(folder, { recursive: true, force: true })
})

const listen = (socket?: string) => {
  const log = recordLog()
  const api = `127.0.0.1:${process.pid}${++count}`
  const variables: Record<string, string> = {
    AWS_LAMBDA_RUNTIME_API: api,
    ...(socket && { POST_INVOKE_SOCKET: socket }),
  }
  const companion = listenForLayer(log, variables)
  return {
    companion,
    log,
    variables,
    address: socket ?? `\0middy-post-invoke/${api}`,
    holds: () => companion.holds({ gated: false }),
  }
}

/** The layer's companion: connects, and greets unless it shall not. */
const connect = async (address: string, greeting: Message | undefined = hello) => {
  const socket = net.connect(address)
  open.push(socket)
  let text = ''
  let closed = false
  socket.setEncoding('utf8')
  socket.on('data', chunk => {
    text += chunk
  })
  socket.on('error', () => {})
  socket.on('close', () => {
    closed = true
  })
  await new Promise<void>((resolve, reject) => {
    socket.on('connect', resolve)
    socket.on('error', reject)
  })
  if (greeting) socket.write(encode(greeting))
  await until(() => text.includes('\n'), 'the function has greeted')
  return {
    socket,
    isClosed: () => closed,
    text: () => text,
    received: (): Message[] =>
      text
        .split('\n')
        .slice(0, -1)
        .map(line => JSON.parse(line)),
  }
}

const settled = (requestId: string): Message => ({ type: 'settled', requestId })

describe.each([
  ['an abstract name', () => undefined],
  ['a path', () => join(folder, 'socket')],
])('over %s', (_, socket) => {
  it('greets, and tells tasks and ends', async () => {
    const { companion, address, holds, log } = listen(socket())
    expect(companion.kind).toBe('layer')
    expect(holds()).toBe(true)
    const layer = await connect(address)
    companion.tasks('r1', { names: ['a', 'b'], more: 3 })
    companion.settle('r1')
    await until(() => layer.received().length === 3)
    expect(layer.received()).toEqual([
      { type: 'hello', protocol: PROTOCOL, version },
      { type: 'tasks', requestId: 'r1', names: ['a', 'b'], more: 3 },
      settled('r1'),
    ])
    expect(holds()).toBe(true)
    expect(log.lines).toEqual([])
  })

  it('listens at once: a companion that connects in the same turn gets through', async () => {
    const { address } = listen(socket())
    const layer = await connect(address)
    expect(layer.received()).toEqual([hello])
  })

  it('leaves a name in use to whoever has it, and holds nothing', async () => {
    const first = listen(socket())
    const log = recordLog()
    const second = listenForLayer(log, first.variables)
    await until(() => log.lines.length === 1)
    expect(log.lines[0]?.level).toBe('warn')
    expect(log.lines[0]?.message).toMatch(
      /^cannot listen for the layer's companion \(.*EADDRINUSE.*\): withoutCompanion applies/,
    )
    expect(second.holds({ gated: false })).toBe(false)
    const layer = await connect(first.address)
    first.companion.settle('r1')
    await until(() => layer.received().length === 2)
    expect(first.holds()).toBe(true)
    expect(first.log.lines).toEqual([])
  })
})

describe('a companion that comes late', () => {
  it('is told what settled meanwhile, and then what comes', async () => {
    const { companion, address } = listen()
    companion.settle('r1')
    companion.settle('r2')
    const layer = await connect(address)
    await until(() => layer.received().length === 3)
    companion.settle('r3')
    await until(() => layer.received().length === 4)
    expect(layer.received().slice(1)).toEqual([settled('r1'), settled('r2'), settled('r3')])
  })

  it('is told of the last 16 requests', async () => {
    const { companion, address } = listen()
    for (let index = 0; index < 40; index++) companion.settle(`r${index}`)
    const layer = await connect(address)
    await until(() => layer.received().length >= 17)
    await turns(20)
    expect(layer.received().slice(1)).toEqual(Array.from({ length: 16 }, (_, index) => settled(`r${index + 24}`)))
  })

  it('is told once, and another one after it only of what is new', async () => {
    const { companion, address } = listen()
    companion.settle('r1')
    const first = await connect(address)
    await until(() => first.received().length === 2)
    first.socket.destroy()
    await turns(20)
    companion.settle('r2')
    const second = await connect(address)
    await until(() => second.received().length === 2)
    expect(second.received()).toEqual([hello, settled('r2')])
  })

  it('takes the place of one before it, whose end then changes nothing', async () => {
    const { companion, address, holds } = listen()
    const first = await connect(address)
    const second = await connect(address)
    companion.settle('r1')
    await until(() => second.received().length === 2)
    first.socket.destroy()
    await turns(20)
    companion.settle('r2')
    await until(() => second.received().length === 3)
    expect(holds()).toBe(true)
  })

  it('does not know of tasks that have settled since', async () => {
    const { companion, address } = listen()
    companion.tasks('r1', { names: ['a'], more: 0 })
    companion.settle('r1')
    companion.tasks('r2', { names: ['b'], more: 0 })
    const layer = await connect(address)
    await until(() => layer.received().length === 3)
    expect(layer.received().slice(1)).toEqual([
      settled('r1'),
      { type: 'tasks', requestId: 'r2', names: ['b'], more: 0 },
    ])
  })
})

describe('ready()', () => {
  it('resolves as the companion connects', async () => {
    const { companion, address } = listen()
    let isReady = false
    companion.ready()?.then(() => {
      isReady = true
    })
    await turns(5)
    expect(isReady).toBe(false)
    await connect(address)
    await until(() => isReady)
    expect(companion.ready()).toBeUndefined()
  })

  it('resolves soon where none comes', async () => {
    const { companion } = listen()
    await companion.ready()
  })

  it('is nothing to wait for where there is none', async () => {
    const { companion, holds } = listen()
    companion.settle('r1')
    expect(holds()).toBe(false)
    expect(companion.ready()).toBeUndefined()
  })
})

describe('a companion that does not come', () => {
  it('is missed from the second invocation on, which is said once', async () => {
    const { companion, log, holds, address } = listen()
    expect(holds()).toBe(true)
    companion.settle('r1')
    expect(holds()).toBe(false)
    companion.settle('r2')
    expect(holds()).toBe(false)
    expect(log.of('warn')).toEqual([
      "the layer's companion made no connection during an invocation: is the layer attached? Until it connects, withoutCompanion applies (by default tasks are awaited before the answer).",
    ])
    await connect(address)
    await until(holds)
    companion.settle('r3')
    expect(holds()).toBe(true)
    expect(log.lines).toHaveLength(1)
  })

  it('is missed after its connection has closed and none came again', async () => {
    const { companion, log, holds, address } = listen()
    const layer = await connect(address)
    companion.settle('r1')
    expect(holds()).toBe(true)
    layer.socket.destroy()
    await turns(20)
    companion.settle('r2')
    expect(holds()).toBe(false)
    expect(log.of('warn')).toHaveLength(1)
  })

  it('is missed although the first invocation has not settled: without a hold it is frozen before it does', () => {
    const { holds, log } = listen()
    expect([holds(), holds()]).toEqual([true, false])
    expect(log.of('warn')).toHaveLength(1)
  })

  it('is not missed once it has come, also where the invocation has not settled', async () => {
    const { log, holds, address } = listen()
    expect(holds()).toBe(true)
    await connect(address)
    await turns(20)
    expect([holds(), holds()]).toEqual([true, true])
    expect(log.lines).toEqual([])
  })
})

describe('a companion of another protocol', () => {
  const other: Message = { type: 'hello', protocol: PROTOCOL + 1, version: '9.9.9' }
  const warning = `this package is version ${version} (protocol ${PROTOCOL}), the layer is version 9.9.9 (protocol ${PROTOCOL + 1}): deploy both from one version. Until then withoutCompanion applies (by default tasks are awaited before the answer).`

  it('counts as none, which is said once', async () => {
    const { companion, log, holds, address } = listen()
    const layer = await connect(address, other)
    await until(() => log.lines.length > 0)
    expect(holds()).toBe(false)
    expect(companion.ready()).toBeUndefined()
    companion.settle('r1')
    layer.socket.destroy()
    await connect(address, other)
    await turns(20)
    expect(holds()).toBe(false)
    expect(log.lines).toEqual([{ level: 'warn', message: warning }])
  })

  it('is not missed besides, where an invocation was waiting for one', async () => {
    const { log, holds, address } = listen()
    expect(holds()).toBe(true)
    await connect(address, other)
    await until(() => log.lines.length > 0)
    expect(holds()).toBe(false)
    expect(log.of('warn')).toEqual([warning])
  })

  it('is told nothing but our greeting', async () => {
    const { companion, log, address } = listen()
    const layer = await connect(address, other)
    await until(() => log.lines.length > 0)
    companion.tasks('r1', { names: ['a'], more: 0 })
    companion.settle('r1')
    await turns(20)
    expect(layer.received()).toEqual([hello])
  })
})

describe('a connection', () => {
  it('keeps no event loop going', async () => {
    const { address, companion } = listen()
    const refd = () => process.getActiveResourcesInfo().filter(type => type === 'PipeWrap').length
    await turns(20) // of the tests before
    const before = refd()
    const layer = await connect(address)
    companion.settle('r1')
    await until(() => layer.received().length === 2)
    expect(refd()).toBe(before + 1) // the other end, which is this test's
  })

  it('that does not greet is no companion', async () => {
    const { companion, address, holds } = listen()
    const socket = net.connect(address)
    open.push(socket)
    await new Promise(resolve => socket.on('connect', resolve))
    companion.settle('r1')
    await turns(20)
    expect(holds()).toBe(false)
  })

  it('that sends what nobody can read goes on', async () => {
    const { companion, address } = listen()
    const layer = await connect(address)
    layer.socket.write('{"type":"news"}\nnot JSON\n\n')
    await turns(20)
    companion.settle('r1')
    await until(() => layer.received().length === 2)
  })

  it('that sends an endless line is closed', async () => {
    const { address, companion, holds } = listen()
    const layer = await connect(address)
    layer.socket.write('x'.repeat(MAX_LINE_BYTES + 1))
    await until(layer.isClosed)
    companion.settle('r1')
    expect(holds()).toBe(false)
  })

  it('never gets a line from us that it would not read', async () => {
    const { companion, address } = listen()
    const layer = await connect(address)
    companion.tasks('r1', { names: Array(50).fill('x'.repeat(5_000)), more: 7 })
    companion.tasks('r1', { names: ['\u0000'.repeat(100_000)], more: 0 })
    companion.settle('r1')
    await until(() => layer.text().includes('settled'))
    for (const line of layer.text().split('\n')) expect(Buffer.byteLength(line)).toBeLessThanOrEqual(MAX_LINE_BYTES)
    expect(layer.received().map(({ type }) => type)).toEqual(['hello', 'tasks', 'tasks', 'settled'])
  })
})

describe('a path', () => {
  it('is for this user only, whatever the mask is', () => {
    const mask = process.umask(0)
    const path = join(folder, 'socket')
    listen(path)
    expect(process.umask(mask)).toBe(0)
    expect(statSync(path).mode & 0o777).toBe(0o600)
  })

  it('that a dead process left behind is taken over', async () => {
    const path = join(folder, 'socket')
    // A server that is closed removes its file. One that is killed does not; here, a copy of its name stays.
    const dead = createServer()
    await new Promise<void>(resolve => dead.listen(`${path}.tmp`, resolve))
    const { linkSync } = await import('node:fs')
    linkSync(`${path}.tmp`, path)
    await new Promise(resolve => dead.close(resolve))
    expect(statSync(path).isSocket()).toBe(true)

    const { companion, log, holds } = listen(path)
    await until(
      () => statSync(path, { throwIfNoEntry: false })?.isSocket() === true && (statSync(path).mode & 0o777) === 0o600,
    )
    const layer = await connect(path)
    companion.settle('r1')
    await until(() => layer.received().length === 2)
    expect(holds()).toBe(true)
    expect(log.lines).toEqual([])
  })

  it('in a folder that is not there is warned of, and holds nothing', async () => {
    const { log, holds } = listen(join(folder, 'missing', 'socket'))
    await until(() => log.lines.length === 1)
    expect(log.of('warn')[0]).toMatch(/^cannot listen for the layer's companion \(.*ENOENT|EACCES.*\)/)
    expect(holds()).toBe(false)
  })

  it('of a file that is no socket is not ours to take: it stays', async () => {
    const path = join(folder, 'data.json')
    writeFileSync(path, 'precious')
    const { log, holds } = listen(path)
    await until(() => log.lines.length === 1 || !existsSync(path) || statSync(path).isSocket())
    expect(existsSync(path) && statSync(path).isFile()).toBe(true)
    expect(log.of('warn')).toHaveLength(1)
    expect(holds()).toBe(false)
  })
})
