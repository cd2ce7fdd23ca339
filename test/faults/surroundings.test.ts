// Variables, files and folders that are not as they should be.
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { makeFolder } from '../support/fault-layers.ts'
import { canUnshare, mounted } from '../support/fault-mounts.ts'
import type { Fault, FaultEvent, Given } from '../support/fault-observe.ts'
import { describeFaults, on } from '../support/fault-suite.ts'

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

/** What the runtime clients need, but for processes. */
const permissions = '--permission --allow-fs-read=* --allow-fs-write=* --allow-addons --allow-worker'

const refusals: Fault[] = [
  {
    injected: 'Node.js may start no processes (`--permission`)',
    on: on.all,
    start: () => ({ environment: { NODE_OPTIONS: permissions } }),
  },
  {
    injected: 'Node.js may start no processes (`--permission`), with `shutdown: true`',
    on: on.gate,
    start: () => ({ environment: { NODE_OPTIONS: permissions, FAULTS_OPTIONS: '{"shutdown":true}' } }),
  },
]

const firstUse: Fault[] = [
  {
    injected: '`postInvoke()` is first called inside a handler',
    on: on.all,
    start: () => ({ environment: { FAULTS_LATE: '1' } }),
  },
  {
    // In an image of one's own: in Lambda's runtimes a process without a client's marks is a child of the function's.
    injected: 'The runtime client tells nothing',
    on: on.extensions,
    start: () => ({ environment: { FAULTS_FIRST: './silent-client.mjs', AWS_EXECUTION_ENV: 'AWS_Lambda_Image' } }),
  },
]

const oddIds: Fault[] = ['a-1', "odd.$(exit)~'*_[x]", '0'].map(requestId => ({
  injected: `The request's id is \`${requestId}\``,
  on: on.all,
  requestId,
}))

const clock = (kind: string): FaultEvent => ({
  tasks: [
    { kind: 'sleep', name: 'after' },
    { kind, name: 'faulty' },
  ],
})

const clocks: Fault[] = [
  { injected: "The function's clock is set an hour ahead by a task", event: clock('clock-ahead') },
  {
    injected: "The function's clock is set an hour ahead in the handler",
    event: { does: 'clock-ahead', tasks: [{ kind: 'sleep', name: 'task' }] },
  },
].map(fault => ({ ...fault, on: on.all }))

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
]

describeFaults('surroundings', [
  ...variables,
  ...refusals,
  ...firstUse,
  ...oddIds,
  ...clocks,
  ...mounts.map(fault => ({ ...fault, isSkipped: !canUnshare })),
])
