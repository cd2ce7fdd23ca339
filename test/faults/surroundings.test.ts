// Variables, files and folders that are not as they should be.
import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { makeFolder } from '../support/fault-layers.ts'
import type { Fault, Given, Start } from '../support/fault-observe.ts'
import { describeFaults, on } from '../support/fault-suite.ts'

/** A mount namespace is root's, or that of a user who may be root in one of his own. */
const unshare = ['unshare', ...(process.getuid?.() === 0 ? [] : ['--map-root-user']), '--mount']
const canUnshare = spawnSync(unshare[0] as string, [...unshare.slice(1), 'true']).status === 0

/** The function's process with other mounts. */
const mounted = (script: string): Start => ({
  command: argv => [...unshare, 'sh', '-c', `${script} && exec "$@"`, 'sh', ...argv],
})

const script = ({ cleanUp }: Given, name: string, text: string): string => {
  const file = join(makeFolder(cleanUp), name)
  writeFileSync(file, text)
  chmodSync(file, 0o755)
  return file
}

const variables: Fault[] = [
  {
    injected: '`NODE_OPTIONS` preloads a module that only the function can load',
    on: on.all,
    start: given => {
      const text = `if (!process.env._HANDLER) throw new Error('not the function')\nconsole.log('preloaded')\n`
      return { environment: { NODE_OPTIONS: `--require=${script(given, 'preload.cjs', text)}` } }
    },
  },
  {
    injected: '`BASH_ENV` and `ENV` name a script that ends the shell, and bash functions are exported',
    on: on.all,
    start: given => {
      const file = script(given, 'start-up.sh', 'exit 7\n')
      const functions = Object.fromEntries(
        ['exec', 'read', 'printf', 'register', 'unset'].map(name => [`BASH_FUNC_${name}%%`, '() { exit 7; }']),
      )
      return { environment: { BASH_ENV: file, ENV: file, ...functions } }
    },
  },
  {
    injected: 'A proxy for HTTP is set that refuses every connection',
    on: on.all,
    start: () => {
      const proxy = 'http://127.0.0.1:9'
      return { environment: { NODE_USE_ENV_PROXY: '1', HTTP_PROXY: proxy, http_proxy: proxy, NO_PROXY: '' } }
    },
  },
  {
    injected: '`HOME` and `TMPDIR` name folders that are missing',
    on: on.all,
    start: () => ({ environment: { HOME: '/missing', TMPDIR: '/missing' } }),
  },
  {
    injected: '`PATH` begins with a `node` that is no program',
    on: on.layer,
    start: ({ cleanUp }) => {
      const folder = makeFolder(cleanUp)
      mkdirSync(join(folder, 'node'))
      return { environment: { PATH: [folder, process.env.PATH].join(delimiter) } }
    },
  },
]

const mounts: Fault[] = [
  {
    injected: 'There is no bash',
    on: on.embedded,
    // Also where /bin is /usr/bin. The file that is there instead cannot be executed.
    start: () => mounted('mount --bind /dev/null "$(readlink -f /bin/bash)"'),
  },
  {
    injected: 'There is no bash, with `shutdown: true`',
    on: on.gate,
    start: () => ({
      ...mounted('mount --bind /dev/null "$(readlink -f /bin/bash)"'),
      environment: { FAULTS_OPTIONS: '{"shutdown":true}' },
    }),
  },
  {
    injected: '`/tmp` is read-only',
    on: on.all,
    start: () => mounted('mount --bind /tmp /tmp && mount -o remount,ro,bind /tmp'),
  },
  {
    injected: '`/tmp` is read-only, and `POST_INVOKE_SOCKET` is in it',
    on: on.layer,
    start: () => ({
      ...mounted('mount --bind /tmp /tmp && mount -o remount,ro,bind /tmp'),
      environment: { POST_INVOKE_SOCKET: '/tmp/post-invoke-faults/s' },
    }),
  },
]

describeFaults('surroundings', [...variables, ...mounts.map(fault => ({ ...fault, isSkipped: !canUnshare }))])
