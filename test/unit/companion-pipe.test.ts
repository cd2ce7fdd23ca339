// The ways to the companion's process: real FIFOs in a folder of each test's own, and a real bash with the script.
import childProcess, { type ChildProcess } from 'node:child_process'
import fs from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import { openOwn, PROTOCOL, pipePath, startScript } from '../../src/middleware/companion-pipe.ts'
import { type ApiThread, startApiThread } from '../support/extensions-api-thread.ts'
import { until } from './helpers.ts'
import { type PipeReader, startPipeReader, temporaryFolder } from './pipe-reader.ts'

const API = '127.0.0.1:9001'
const isRoot = process.getuid?.() === 0
const STRANGER = 12_345

let folder: string
let readers: PipeReader[] = []

beforeEach(() => {
  folder = temporaryFolder()
})
afterEach(() => {
  jest.restoreAllMocks()
  for (const reader of readers.splice(0)) reader.close()
  readers = []
  fs.rmSync(folder, { recursive: true, force: true })
})

const startReader = () => {
  const reader = startPipeReader(API, folder)
  readers.push(reader)
  return reader
}

const openFiles = () => fs.readdirSync('/proc/self/fd').length

describe('the name of the pipe', () => {
  it('holds the protocol and the port of the API', () => {
    expect(pipePath('/tmp', API)).toBe(`/tmp/.middy-post-invoke-${PROTOCOL}-9001`)
    expect(pipePath('/var/run', '[::1]:80', 7)).toBe('/var/run/.middy-post-invoke-7-80')
  })

  it('is the one that the script makes', () => {
    const script = fs.readFileSync(new URL('../../src/extension/post-invoke.sh', import.meta.url), 'utf8')
    expect(script).toContain(`pipe=\${POST_INVOKE_FOLDER:-/tmp}/.middy-post-invoke-${PROTOCOL}-$port`)
  })
})

describe('what is no pipe of a companion', () => {
  const refuses = (expected: string | RegExp) => {
    const before = openFiles()
    expect(() => openOwn(path(), true)).toThrow(expected)
    expect(openFiles()).toBe(before)
  }
  const path = () => pipePath(folder, API)
  const KIND = 'is of another kind or user'

  it('nothing at all', () => refuses('ENOENT'))

  it('a folder that is not there', () => {
    fs.rmSync(folder, { recursive: true })
    refuses('ENOENT')
  })

  it('a pipe that nobody reads', () => {
    childProcess.execFileSync('mkfifo', [path()])
    refuses('ENXIO')
  })

  it('a plain file, which stays as it is', () => {
    fs.writeFileSync(path(), 'precious')
    refuses(KIND)
    expect(fs.readFileSync(path(), 'utf8')).toBe('precious')
  })

  it('a folder', () => {
    fs.mkdirSync(path())
    refuses('EISDIR')
  })

  it('a link to a pipe', () => {
    const reader = startReader()
    fs.renameSync(reader.path, join(folder, 'elsewhere'))
    fs.symlinkSync(join(folder, 'elsewhere'), path())
    refuses('ELOOP')
  })

  it('a Unix socket', async () => {
    const server = net.createServer()
    await new Promise<void>(resolve => server.listen(path(), resolve))
    refuses('ENXIO')
    server.close()
  })

  const itAsRoot = isRoot ? it : it.skip
  itAsRoot("another user's pipe", () => {
    const reader = startReader()
    fs.chownSync(reader.path, STRANGER, STRANGER)
    refuses(KIND)
  })
})

describe("the companion as this process' own child", () => {
  let api: ApiThread
  let child: ChildProcess | undefined

  const begin = async (status = 200) => {
    api = await startApiThread(status)
    process.env.POST_INVOKE_FOLDER = folder
  }
  afterEach(async () => {
    try {
      process.kill(-(child?.pid as number), 'SIGKILL') // its whole group: a shell may have a child
    } catch {}
    child = undefined
    delete process.env.POST_INVOKE_FOLDER
    delete process.env.SECRET
    delete process.env.AWS_LAMBDA_LOG_FORMAT
    await api?.close()
  })

  /** Starts it, with another program in the place of bash where one is given. */
  const start = (events: string, program?: string, args?: string[]) => {
    const { spawn } = childProcess
    jest.spyOn(childProcess, 'spawn').mockImplementation(((file: string, given: string[], options: any) => {
      child = spawn(program ?? file, args ?? given, options)
      return child
    }) as any)
    return startScript(events, api.address)
  }

  it('registers before the call returns, and releases what is settled', async () => {
    await begin()
    const { fd } = start('"INVOKE"')._handle
    const write = (line: string) => fs.writeSync(fd, line)
    await until(() => api.requests.length === 2)
    expect(api.requests).toEqual([
      expect.stringMatching(/^POST \/2020-01-01\/extension\/register \{"events":\["INVOKE"\]\}$/),
      'GET /2020-01-01/extension/event/next',
    ])
    write('open\n')
    api.answer({ eventType: 'INVOKE', deadlineMs: Date.now() + 60_000, requestId: 'r1' })
    write(`hold 1 ${Date.now() + 60_000}\n`)
    write('settled 1 r1\n')
    await until(() => api.requests.length === 3)
  })

  it.each([
    ['JSON', '1'],
    ['Text', ''],
  ])('is told its events, the file of last words, and whether lines of log are JSON: %s', (format, isJson) => {
    process.env.AWS_LAMBDA_LOG_FORMAT = format
    const given: string[][] = []
    jest.spyOn(childProcess, 'spawn').mockImplementation(((_file: string, args: string[]) => {
      given.push(args.slice(-3))
      throw new Error('not started')
    }) as any)
    expect(() => startScript('"INVOKE"', API, '/tmp/words')).toThrow('not started')
    expect(() => startScript('', API)).toThrow('not started')
    expect(given).toEqual([
      ['"INVOKE"', '/tmp/words', isJson],
      ['', '', isJson],
    ])
  })

  it('registers for no events where it is there for SIGTERM alone', async () => {
    await begin()
    start('')
    await until(() => api.requests.length > 0)
    expect(api.requests[0]).toMatch(/\{"events":\[\]\}$/)
  })

  it('runs in a process group of its own, and in a bare environment', async () => {
    await begin()
    process.env.SECRET = 'of the function'
    start('"INVOKE"')
    const pid = child?.pid as number
    const fields = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ') ?? []
    expect(Number(fields[2])).toBe(pid)
    const entries = fs.readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0')
    const names = entries.map(entry => entry.split('=')[0])
    expect(names).toEqual(['AWS_LAMBDA_RUNTIME_API', ''])
    // In a list of processes it has a name.
    expect(fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')).toContain('middy-post-invoke')
  })

  it('keeps this process neither running nor from ending', async () => {
    await begin()
    start('"INVOKE"')
    const { _handle, stdio } = child as any
    expect([_handle.hasRef(), stdio[3]._handle.hasRef()]).toEqual([false, false])
  })

  it('that Lambda refuses says why', async () => {
    await begin(403)
    expect(() => start('"INVOKE"')).toThrow(/^failed 403 /)
  })

  it('whose API is not there says so', async () => {
    await begin()
    await api.close()
    expect(() => start('"INVOKE"')).toThrow(/^failed /)
  })

  it.each<[string, string, string[], string]>([
    ['is missing', '/nowhere/bash', [], 'bash cannot be started'],
    ['ends at once', '/bin/true', [], 'bash ended'],
    ['never answers', '/bin/sleep', ['60'], 'no answer within 2000 ms'],
    ['says something else', '/bin/sh', ['-c', 'echo no >&3; echo ready >&3; sleep 60'], 'no'],
  ])('whose bash %s says so, and leaves no process and no file open', async (_, program, args, expected) => {
    await begin()
    expect(() => start('"INVOKE"', program, args)).toThrow(new Error(expected))
    const socket = child?.stdio?.[3] as net.Socket | null | undefined
    await until(() => socket?.destroyed ?? true)
    if (args.length > 0) await until(() => child?.signalCode === 'SIGKILL')
  })

  it('whose answer comes in pieces is waited for', async () => {
    await begin()
    const args = ['-c', 'printf rea >&3; sleep 0.1; echo dy >&3; exec sleep 60']
    expect(start('"INVOKE"', '/bin/sh', args).destroyed).toBe(false)
  })

  it('whose answer cannot be read says why, and leaves no process', async () => {
    await begin()
    jest.spyOn(fs, 'readSync').mockImplementation(() => {
      throw new Error('EIO: i/o error, read')
    })
    expect(() => start('"INVOKE"')).toThrow('EIO: i/o error, read')
    await until(() => child?.signalCode === 'SIGKILL')
  })

  it('that may not be started says why', () => {
    jest.spyOn(childProcess, 'spawn').mockImplementation(() => {
      throw new Error('Access to this API has been restricted')
    })
    expect(() => startScript('', API)).toThrow('Access to this API has been restricted')
  })
})
